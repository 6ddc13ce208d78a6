//! Where model files are kept.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::entry::Entry;
use crate::error::Error;

/// Gives the folder that model files are kept in; it need not exist yet.
///
/// `$XDG_CACHE_HOME/millrace`, else `$HOME/.cache/millrace`, by the XDG base directory convention:
/// a value that is empty or no absolute path counts as not set. Error: neither is set.
pub fn cache_dir() -> Result<PathBuf, Error> {
    cache_dir_from(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
}

fn cache_dir_from(xdg: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, Error> {
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|p| p.is_absolute());
    absolute(xdg)
        .or_else(|| absolute(home).map(|home| home.join(".cache")))
        .map(|base| base.join("millrace"))
        .ok_or(Error::NoCacheDir)
}

/// Whether the file of `entry` is in the folder `cache`, by its name and length; a fetch looks closer.
pub fn is_in(cache: &Path, entry: &Entry) -> bool {
    fs::metadata(cache.join(entry.file)).is_ok_and(|found| found.len() == entry.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_variable_wins_over_home_and_relative_values_do_not_count() {
        let check = |xdg: Option<&str>, home: Option<&str>| {
            cache_dir_from(xdg.map(OsString::from), home.map(OsString::from)).ok()
        };
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(check(Some("/c"), Some("/h")), path("/c/millrace"));
        assert_eq!(check(None, Some("/h")), path("/h/.cache/millrace"));
        assert_eq!(check(Some(""), Some("/h")), path("/h/.cache/millrace"));
        assert_eq!(check(Some("c"), Some("/h")), path("/h/.cache/millrace"));
        assert_eq!(check(None, None), None);
        assert_eq!(check(Some("c"), Some("h")), None);
    }

    #[test]
    fn without_a_cache_folder_the_message_names_the_variables() {
        let error = cache_dir_from(None, None).unwrap_err().to_string();
        assert!(error.contains("XDG_CACHE_HOME") && error.contains("HOME"), "{error}");
        assert!(error.contains("--model PATH"), "{error}");
    }
}
