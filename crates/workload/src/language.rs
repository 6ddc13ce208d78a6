//! The languages of the report.

use std::str::FromStr;

/// A language that the report can be printed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Chinese, the language of the report this project starts from.
    Chinese,
}

/// A language that the report is not available in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("language `{0}` is not available: choose `en` or `zh`")]
pub struct UnknownLanguage(String);

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(code: &str) -> Result<Language, UnknownLanguage> {
        match code {
            "en" => Ok(Language::English),
            "zh" => Ok(Language::Chinese),
            other => Err(UnknownLanguage(other.to_owned())),
        }
    }
}
