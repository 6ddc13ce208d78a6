//! Numbers that must not be mistaken for one another.

/// A token of the model's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u32);

/// A request, from submit to its terminal event. Made by us, never by a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A block of the KV pool: room for the keys and values of `block_size` positions in the layers of one group.
///
/// Range: `0..block_count`, or [`BlockId::RELEASED`] in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// What is added to the model for some requests; the device knows what. Keys and values that were computed
/// with one are no other request's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub u32);

impl BlockId {
    /// In a table, the place of a block that lies behind the window and was given back.
    pub const RELEASED: BlockId = BlockId(u32::MAX);

    /// The block's place in per-block arrays.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
