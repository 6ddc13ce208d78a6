//! The findings in words, one paragraph each.

use crate::analysis::{Finding, Signs};
use crate::language::Language;

mod chinese;
mod english;

impl Finding {
    /// The finding as one paragraph.
    pub fn text(&self, language: Language) -> String {
        match language {
            Language::English => english::text(self),
            Language::Chinese => chinese::text(self),
        }
    }
}

/// `1, 4, 8` or, in Chinese, `1、4、8`.
fn list(users: &[u32], separator: &str) -> String {
    users.iter().map(u32::to_string).collect::<Vec<_>>().join(separator)
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

fn seconds(milliseconds: f64) -> String {
    format!("{:.2} s", milliseconds / 1000.0)
}

/// `sign` of each sign that is there, joined by `separator`.
fn signs(signs: &Signs, separator: &str, words: [fn(&Signs) -> Option<String>; 3]) -> String {
    words.iter().filter_map(|word| word(signs)).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests;
