//! What is done to text before a unigram model sees it.

mod charsmap;

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use charsmap::Charsmap;

/// One step; a list of them is done in order.
#[derive(Debug, Clone)]
pub enum Normalization {
    /// Parts of the text are replaced by a table of SentencePiece's.
    Charsmap {
        /// The table: `precompiled_charsmap` of its models.
        table: Vec<u8>,
        /// Which parts are looked up.
        parts: Parts,
    },
    /// Unicode's normal form C.
    Nfc,
    /// Unicode's normal form KC.
    Nfkc,
    /// White space at the ends is left out.
    Strip {
        /// At the start.
        start: bool,
        /// At the end.
        end: bool,
    },
    /// Two or more spaces in a row become this.
    MergeSpaces(String),
    /// Spaces at the ends are left out, and those in a row become one: `remove_extra_whitespaces` of
    /// SentencePiece, for which `▁` at the end is a space too.
    OneSpace,
}

/// Which parts of a text a table is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// From each place on the longest one that the table has, as SentencePiece does.
    Longest,
    /// Short clusters of characters that are seen as one, by the shortest rule that they begin with; else
    /// single characters. So does the tokenizers library.
    Clusters,
}

/// The steps, checked.
#[derive(Debug)]
pub(crate) struct Normalizer {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Charsmap(Charsmap, Parts),
    Plain(Normalization),
}

impl Normalizer {
    /// Reads the tables. Error: what is wrong with one.
    pub(crate) fn new(steps: Vec<Normalization>) -> Result<Self, &'static str> {
        let step = |step| match step {
            Normalization::Charsmap { table, parts } => {
                Charsmap::parse(&table).map(|table| Step::Charsmap(table, parts))
            }
            plain => Ok(Step::Plain(plain)),
        };
        Ok(Self { steps: steps.into_iter().map(step).collect::<Result<_, _>>()? })
    }

    /// The text after all steps; none if it has more than `most` bytes before or behind one. Each step may make
    /// a text many times as long, so a table's replacements end where the text is too long, and no step takes
    /// one that is.
    pub(crate) fn normalize<'t>(&self, text: &'t str, most: usize) -> Option<Cow<'t, str>> {
        let within = |text: Cow<'t, str>| (text.len() <= most).then_some(text);
        self.steps.iter().try_fold(within(Cow::Borrowed(text))?, |text, step| match step {
            Step::Charsmap(table, parts) => table.replace(&text, *parts, most).map(Cow::Owned),
            Step::Plain(step) => within(plain(step, text)),
        })
    }
}

fn plain<'t>(step: &Normalization, text: Cow<'t, str>) -> Cow<'t, str> {
    match step {
        Normalization::Charsmap { .. } => unreachable!("tables are read when steps are checked"),
        Normalization::Nfc => Cow::Owned(text.nfc().collect()),
        Normalization::Nfkc => Cow::Owned(text.nfkc().collect()),
        Normalization::Strip { start, end } => {
            let text = if *start { within(text, str::trim_start) } else { text };
            if *end { within(text, str::trim_end) } else { text }
        }
        Normalization::MergeSpaces(to) => Cow::Owned(merge_spaces(&text, to)),
        Normalization::OneSpace => {
            let ends = |text: &str| text.trim_start_matches(' ').trim_end_matches([' ', '▁']).len();
            let start = text.len() - text.trim_start_matches(' ').len();
            Cow::Owned(merge_spaces(&text[start..start + ends(&text)], " "))
        }
    }
}

/// A part of the text.
fn within<'t>(text: Cow<'t, str>, part: fn(&str) -> &str) -> Cow<'t, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(part(text)),
        Cow::Owned(text) => Cow::Owned(part(&text).to_owned()),
    }
}

/// `text` with `to` for two or more spaces in a row.
fn merge_spaces(text: &str, to: &str) -> String {
    let mut merged = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("  ") {
        merged.push_str(&rest[..start]);
        merged.push_str(to);
        rest = rest[start..].trim_start_matches(' ');
    }
    merged.push_str(rest);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(step: Normalization, text: &str) -> String {
        Normalizer::new(vec![step]).expect("valid").normalize(text, 64).expect("short").into_owned()
    }

    #[test]
    fn spaces_are_merged_and_left_out_at_the_ends() {
        let text = "  a  b c   ";
        let merged = |to: &str| normalized(Normalization::MergeSpaces(to.to_owned()), text);
        assert_eq!(merged(" "), " a b c ");
        assert_eq!(merged("▁"), "▁a▁b c▁");
        assert_eq!(normalized(Normalization::OneSpace, text), "a b c");
        assert_eq!(normalized(Normalization::OneSpace, "▁x▁ ▁"), "▁x");
        assert_eq!(normalized(Normalization::OneSpace, "   "), "");
        assert_eq!(normalized(Normalization::OneSpace, ""), "");
        let strip = |start, end| normalized(Normalization::Strip { start, end }, "\t a\n ");
        assert_eq!((strip(true, false), strip(false, true)), ("a\n ".into(), "\t a".into()));
    }

    #[test]
    fn a_text_that_grows_too_long_is_none_at_any_step() {
        for parts in [Parts::Longest, Parts::Clusters] {
            let table = charsmap::tests::table_of_one('a', &"a".repeat(256));
            let step = Normalization::Charsmap { table, parts };
            let normalizer = Normalizer::new(vec![step; 2]).expect("valid");
            let bytes = |text: &str, most| Some(normalizer.normalize(text, most)?.len());
            assert_eq!(bytes("aab", 2 << 16 | 1), Some(2 << 16 | 1));
            assert_eq!(bytes("aab", 2 << 16), None);
            // Without a limit on the way these would be 256 GiB.
            assert_eq!(bytes(&"a".repeat(4 << 20), 16 << 20), None);
        }
        let normalizer = Normalizer::new(vec![Normalization::Nfkc]).expect("valid");
        assert_eq!(normalizer.normalize("\u{FDFA}", 3), None);
        // Also where it gets shorter.
        let normalizer = Normalizer::new(vec![Normalization::OneSpace]).expect("valid");
        assert_eq!(normalizer.normalize("  a", 2), None);
        assert_eq!(normalizer.normalize("  a", 3).as_deref(), Some("a"));
    }
}
