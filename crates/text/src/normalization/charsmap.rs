//! SentencePiece's table of replacements.
//!
//! The number of bytes of a trie, as a 32-bit number; the trie; and texts, each ended by a zero byte. The trie
//! is a double array of darts-clone over the bytes of what is replaced; its values are places in those
//! texts. All numbers are little-endian. A table may say anything: what leads nowhere is no rule.
//! Source: `normalizer.cc` of SentencePiece, `darts.h` of darts-clone.

use unicode_segmentation::UnicodeSegmentation;

use super::Parts;

/// Longest text that takes the place of another; the longest of Unicode's has 33 bytes.
const REPLACEMENT_BYTES_MAX: usize = 256;
/// How far rules are followed. Those of Unicode have less than 32 bytes.
const RULE_BYTES_MAX: usize = 64;
/// Clusters of more bytes are looked up by the character. Source: `spm_precompiled`.
const CLUSTER_BYTES_MAX: usize = 5;

#[derive(Debug)]
pub(super) struct Charsmap {
    trie: Vec<u32>,
    texts: String,
}

impl Charsmap {
    /// Reads a table. Error: what is wrong with it.
    pub(super) fn parse(table: &[u8]) -> Result<Self, &'static str> {
        let (length, rest) = table.split_first_chunk::<4>().ok_or("it has less than 4 bytes")?;
        let length = u32::from_le_bytes(*length) as usize;
        let (trie, texts) = rest.split_at_checked(length).ok_or("its trie is cut off")?;
        let (trie, odd) = trie.as_chunks::<4>();
        if !odd.is_empty() {
            return Err("its trie is no list of 32-bit numbers");
        }
        let texts = str::from_utf8(texts).map_err(|_| "its texts are not UTF-8")?;
        if texts.split('\0').any(|text| REPLACEMENT_BYTES_MAX < text.len()) {
            return Err("a replacement has more than 256 bytes");
        }
        let trie = trie.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { trie, texts: texts.to_owned() })
    }

    /// `text` with its parts replaced; none if it has more than `most` bytes then.
    pub(super) fn replace(&self, text: &str, parts: Parts, most: usize) -> Option<String> {
        let mut replaced = String::with_capacity(text.len());
        let mut push = |part: &str| {
            let fits = part.len() <= most - replaced.len();
            fits.then(|| replaced.push_str(part))
        };
        match parts {
            Parts::Longest => self.replace_longest(text, &mut push)?,
            Parts::Clusters => self.replace_clusters(text, &mut push)?,
        }
        Some(replaced)
    }

    /// Pushes `text` with the longest rule applied from each place on.
    fn replace_longest(&self, text: &str, push: &mut dyn FnMut(&str) -> Option<()>) -> Option<()> {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let longest = self.rules(rest).last();
            let (bytes, to) = longest.and_then(|rule| self.applied(rule)).unwrap_or_else(|| {
                let bytes = first.len_utf8();
                (bytes, &rest[..bytes])
            });
            push(to)?;
            rest = &rest[bytes..];
        }
        Some(())
    }

    /// Pushes `text` with each short cluster, or else each character, replaced as a whole if it begins as a
    /// rule does.
    fn replace_clusters(&self, text: &str, push: &mut dyn FnMut(&str) -> Option<()>) -> Option<()> {
        for cluster in text.graphemes(true) {
            let shortest = |part| self.rules(part).next().and_then(|rule| self.applied(rule));
            let is_short = cluster.len() <= CLUSTER_BYTES_MAX;
            if let Some((_, to)) = Some(cluster).filter(|_| is_short).and_then(shortest) {
                push(to)?;
                continue;
            }
            for (start, character) in cluster.char_indices() {
                let part = &cluster[start..start + character.len_utf8()];
                push(shortest(part).map_or(part, |(_, to)| to))?;
            }
        }
        Some(())
    }

    /// The bytes that a rule replaces, and what comes in their place.
    fn applied(&self, (bytes, place): (usize, usize)) -> Option<(usize, &str)> {
        Some((bytes, self.texts.get(place..)?.split('\0').next()?))
    }

    /// The rules that `text` begins with: bytes of whole characters, and the place of the text for them; the
    /// shortest first.
    fn rules(&self, text: &str) -> impl Iterator<Item = (usize, usize)> {
        let mut node = self.trie.first().map(|&root| offset(root));
        let values = text.bytes().take(RULE_BYTES_MAX).map_while(move |byte| {
            let place = node? ^ u32::from(byte);
            let unit = *self.trie.get(place as usize)?;
            node = (label(unit) == u32::from(byte)).then_some(place ^ offset(unit));
            let leaf = node.filter(|_| has_leaf(unit));
            node.map(|_| leaf.and_then(|leaf| self.trie.get(leaf as usize)))
        });
        values.enumerate().filter_map(move |(index, value)| {
            let bytes = index + 1;
            text.is_char_boundary(bytes).then_some((bytes, value_of(*value?)))
        })
    }
}

/// Where the children of a node are, as a difference of places.
fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & (1 << 9)) >> 6)
}

/// The byte that leads to a node; more than a byte for one that holds a value.
fn label(unit: u32) -> u32 {
    unit & (1 << 31 | 0xFF)
}

/// Whether a rule ends at a node.
fn has_leaf(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}

fn value_of(unit: u32) -> usize {
    (unit & !(1 << 31)) as usize
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table whose only rule is `to` for the ASCII letter `from`.
    pub(in super::super) fn table_of_one(from: char, to: &str) -> Vec<u8> {
        let from = u32::from(from);
        // The root's children are in the upper half; the letter's leaf is in the lower, at 0x80 from it.
        let mut trie = [1 << 31 | 0x1FF; 512];
        trie[0] = 256 << 10;
        trie[(256 ^ from) as usize] = from | 1 << 8 | 0x80 << 10;
        trie[(256 ^ from ^ 0x80) as usize] = 1 << 31;
        let trie = trie.into_iter().flat_map(u32::to_le_bytes);
        [2048_u32.to_le_bytes().to_vec(), trie.collect(), to.as_bytes().to_vec(), vec![0]].concat()
    }

    #[test]
    fn tables_that_are_cut_off_or_too_large_are_refused() {
        let table = |length: u32, rest: &[u8]| [&length.to_le_bytes()[..], rest].concat();
        for (bytes, expected) in [
            (vec![1, 0, 0], "it has less than 4 bytes"),
            (table(8, &[0; 7]), "its trie is cut off"),
            (table(u32::MAX, &[0; 7]), "its trie is cut off"),
            (table(3, &[0; 7]), "its trie is no list of 32-bit numbers"),
            (table(4, &[0, 0, 0, 0, 0xFF]), "its texts are not UTF-8"),
            (table(4, &[b'a'; 300]), "a replacement has more than 256 bytes"),
        ] {
            assert_eq!(Charsmap::parse(&bytes).expect_err(expected), expected);
        }
    }

    /// Every node leads back to itself, with a rule at each step.
    #[test]
    fn a_trie_that_never_ends_is_followed_for_a_while() {
        let unit = u32::from(b'a') | 1 << 8;
        let trie: Vec<u8> = [unit; 256].into_iter().flat_map(u32::to_le_bytes).collect();
        let table = [&1024_u32.to_le_bytes()[..], &trie, b"x\0"].concat();
        let charsmap = Charsmap::parse(&table).expect("valid");
        let text = "a".repeat(1 << 16);
        assert!(charsmap.replace(&text, Parts::Longest, text.len()).is_some());
    }

    proptest! {
        #[test]
        fn any_table_gives_a_text(trie in prop::collection::vec(any::<u32>(), 0..300), text in ".{0,20}") {
            let bytes: Vec<u8> = trie.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let table = [&(bytes.len() as u32).to_le_bytes()[..], &bytes, "é\0abc\0".as_bytes()].concat();
            let charsmap = Charsmap::parse(&table).expect("valid");
            for parts in [Parts::Longest, Parts::Clusters] {
                let most = charsmap.replace(&text, parts, 1 << 20).expect("short").len();
                prop_assert!(charsmap.replace(&text, parts, most).is_some());
                prop_assert!(most.checked_sub(1).is_none_or(|m| charsmap.replace(&text, parts, m).is_none()));
            }
        }
    }
}
