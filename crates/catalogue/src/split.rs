//! The names of GGUF files, and of the parts of one that is split.

/// Whether a file is named as GGUF files are; some are in capitals.
pub fn is_gguf(file: &str) -> bool {
    file.to_ascii_lowercase().ends_with(".gguf")
}

/// What the name of a part of a split file says: `…-00001-of-00003.gguf`, as `llama-gguf-split` writes them.
#[derive(Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// What the whole is called.
    pub stem: &'a str,
    ending: &'a str,
    /// From 1.
    pub number: usize,
    /// How many parts there are.
    pub count: usize,
}

impl<'a> Split<'a> {
    /// Nothing for a file that is whole.
    pub fn of(file: &'a str) -> Option<Self> {
        let (stem, ending) = file.split_at_checked(file.len().checked_sub(".gguf".len())?)?;
        let number = |text: &str| {
            let is_number = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse().ok()).flatten()
        };
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (stem, first) = rest.rsplit_once('-')?;
        let split = Split { stem, ending, number: number(first)?, count: number(count)? };
        ((1..=split.count).contains(&split.number) && is_gguf(file)).then_some(split)
    }

    /// Whether a file is what a model is given by: one that is whole, or the first part.
    pub fn is_first(file: &str) -> bool {
        Split::of(file).is_none_or(|split| split.number == 1)
    }

    /// The path of another part.
    pub fn path(&self, number: usize) -> String {
        format!("{}-{number:05}-of-{:05}{}", self.stem, self.count, self.ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_which_part_of_how_many_a_file_is() {
        for whole in [
            "a-of-b.gguf",
            "-of-00003.gguf",
            "a-1-of-3.gguf",
            "a-00004-of-00003.gguf",
            "a-00000-of-00003.gguf",
            "a-00001-of-00003.bin.x",
            "é.gguf",
        ] {
            assert_eq!(Split::of(whole), None, "{whole}");
        }
        let split = Split::of("Q4/a-00001-of-00012.GGUF").unwrap();
        assert_eq!(split.path(12), "Q4/a-00012-of-00012.GGUF");
    }
}
