//! Grammars that were compiled, kept for requests that ask for the same again.

use std::collections::{BTreeMap, HashMap};

use crate::matcher::Grammar;

/// The grammars used last, in memory alone and within a number of bytes.
#[derive(Debug)]
pub struct Cache {
    bytes_max: usize,
    bytes: usize,
    /// Counts uses.
    clock: u64,
    entries: HashMap<String, Entry>,
    /// Keys by last use, the longest ago first.
    used: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct Entry {
    grammar: Grammar,
    used: u64,
}

impl Cache {
    /// An empty one for grammars of at most `bytes_max` bytes together.
    pub fn new(bytes_max: usize) -> Self {
        Cache { bytes_max, bytes: 0, clock: 0, entries: HashMap::new(), used: BTreeMap::new() }
    }

    /// The grammar of the spec with this [`key`](crate::Spec::key), if it is kept.
    pub fn get(&mut self, key: &str) -> Option<Grammar> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        let key = self.used.remove(&entry.used).expect("every entry has its use");
        self.used.insert(self.clock, key);
        entry.used = self.clock;
        Some(entry.grammar.clone())
    }

    /// Keeps `grammar` and drops those not used for longest until there is room. One that is larger
    /// than the whole cache is not kept.
    pub fn put(&mut self, key: String, grammar: Grammar) {
        if self.bytes_max < grammar.bytes() || self.get(&key).is_some() {
            return;
        }
        self.bytes += grammar.bytes();
        self.used.insert(self.clock, key.clone());
        self.entries.insert(key, Entry { grammar, used: self.clock });
        while self.bytes_max < self.bytes {
            let (_, key) = self.used.pop_first().expect("what takes bytes was used");
            let dropped = self.entries.remove(&key).expect("every use is of an entry");
            self.bytes -= dropped.grammar.bytes();
        }
    }

    /// Bytes of all grammars kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
