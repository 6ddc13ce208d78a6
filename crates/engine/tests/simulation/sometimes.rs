//! Rare events that a batch of seeds must meet, or it proves little.

use std::collections::BTreeMap;

/// Every event that is counted.
pub const EVENTS: [&str; 76] = [
    "a chunk ends at the end of a block",
    "accepted after a refusal",
    "all blocks held",
    "arrival while a step runs",
    "block shared by two rows",
    "cached block evicted",
    "cancel after finish",
    "cancel in a drain",
    "cancel in the step of the finish",
    "cancel of a preempted request",
    "cancel of a running request",
    "cancel of a waiting request",
    "cancel of an arriving request",
    "cancel while its step runs",
    "chunk beside a decode",
    "convoy: all places are filled in one step",
    "convoy: equal prompts begin in one step",
    "convoy: one that fits waits behind a head that does not",
    "decode of several tokens",
    "device failure",
    "device failure with requests arriving",
    "device failure with requests waiting",
    "device panic",
    "draft accepted whole",
    "draft across blocks",
    "draft behind the last chunk of a prompt",
    "draft cut by max_tokens",
    "draft cut by the end of the pool",
    "draft rejected at its first token",
    "draft rejected in its middle",
    "drain while a step runs",
    "drain with requests waiting",
    "fair: a share of less than one place",
    "fair: a tenant's request goes before an earlier one of another",
    "fair: hit on the way back",
    "fair: of two that want more, the one of more weight runs more",
    "fair: preempted",
    "fair: rows of three tenants",
    "finish by length",
    "finish by stop token",
    "hash collision",
    "head does not fit",
    "hit after an eviction",
    "hit in the prefix cache",
    "hit on the way back from a preemption",
    "no drafts in a large step",
    "one block in the pool",
    "places all taken",
    "preempted",
    "preempted in prefill",
    "preempted twice",
    "preempted while decoding",
    "preempted with tokens of a draft",
    "prefill in several chunks",
    "refused: draining",
    "refused: never fits",
    "refused: nothing asked for",
    "refused: nothing to continue",
    "refused: priority",
    "refused: queue full",
    "refused: share full",
    "refused: stopped",
    "refused: too long",
    "row failure",
    "stop token before min_tokens",
    "tokens dropped behind the end",
    "window: a chunk is as long as the window",
    "window: a position longer than a block",
    "window: all layers have one and gave blocks back",
    "window: as long as a block",
    "window: blocks behind it were given back",
    "window: draft rejected behind blocks that were given back",
    "window: hit without the blocks behind it",
    "window: one position",
    "window: preempted after blocks were given back",
    "window: shorter than a block",
];

/// How often each event happened.
#[derive(Debug, Default)]
pub struct Sometimes(BTreeMap<&'static str, u64>);

impl Sometimes {
    pub fn happened(&mut self, event: &'static str) {
        debug_assert!(EVENTS.contains(&event), "{event:?} is not in the list");
        *self.0.entry(event).or_default() += 1;
    }

    pub fn add(&mut self, other: Sometimes) {
        for (event, count) in other.0 {
            *self.0.entry(event).or_default() += count;
        }
    }

    /// Panics if an event happened less than `least` times.
    pub fn check(&self, least: u64) {
        println!("{self:#?}");
        for event in EVENTS {
            let count = self.0.get(event).copied().unwrap_or(0);
            assert!(least <= count, "{event:?} happened {count} times, less than {least}");
        }
    }
}
