//! The pauses within an answer: between its chunks, and between its tokens where that is known.
//!
//! A server may send several tokens in a chunk, or none for a token whose text is not whole yet. So
//! the gap between two chunks (ICL, inter-chunk latency) is what a user sees, and the gap between
//! two tokens (ITL, inter-token latency) exists only where every chunk's tokens are known.

use serde::{Deserialize, Serialize};

use crate::percentile::Spread;
use crate::record::{RequestRecord, milliseconds};

/// The gaps of a level's successful requests, pooled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gaps {
    /// Between two chunks that carry tokens, milliseconds: one value a pair.
    pub icl_ms: Spread,
    /// Between two tokens, milliseconds: the gap before a chunk of k tokens counts as k gaps of a
    /// k-th. `None` unless the tokens of every chunk are known in at least [`ITL_KNOWN`] of the
    /// requests; the others are left out.
    pub itl_ms: Option<Spread>,
    /// The longest gap between two chunks of a request, milliseconds: one value a request.
    pub longest_ms: Spread,
}

/// Share of the requests whose chunks' tokens must be known for an ITL of the level.
pub const ITL_KNOWN: f64 = 0.95;

impl Gaps {
    /// The gaps of the successful among `records`. `None` if none has two chunks.
    pub fn of(records: &[RequestRecord]) -> Option<Gaps> {
        let (mut icl, mut itl, mut longest) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = 0;
        for record in records.iter().filter(|record| record.is_ok() && 2 <= record.chunks.len()) {
            let start = icl.len();
            icl.extend(chunk_gaps_ms(record));
            longest.extend(icl[start..].iter().copied().max_by(f64::total_cmp));
            if let Some(tokens) = tokens_of_chunks(record) {
                known += 1;
                push_token_gaps(&icl[start..], &tokens, &mut itl);
            }
        }
        let is_known = ITL_KNOWN * longest.len() as f64 <= known as f64;
        Some(Gaps {
            icl_ms: Spread::of(icl)?,
            itl_ms: Spread::of(itl).filter(|_| is_known),
            longest_ms: Spread::of(longest)?,
        })
    }
}

/// Milliseconds between the chunks of `record`.
pub fn chunk_gaps_ms(record: &RequestRecord) -> impl Iterator<Item = f64> {
    record.chunks.windows(2).map(|pair| milliseconds(pair[0].at_ns, pair[1].at_ns))
}

/// How many tokens each chunk carried: as the server says, or one each if there are as many as the
/// server counted tokens. `None` if that cannot be known.
pub fn tokens_of_chunks(record: &RequestRecord) -> Option<Vec<u32>> {
    let told: Option<Vec<u32>> = record.chunks.iter().map(|chunk| chunk.tokens).collect();
    let usage = record.completion_tokens?;
    let told = told.filter(|tokens| tokens.iter().sum::<u32>() == usage);
    let one_each = || record.chunks.len() == usage as usize;
    told.or_else(|| one_each().then(|| vec![1; record.chunks.len()]))
}

/// Spreads the gap before each chunk over its tokens. A chunk without a token (text that was held
/// back) leaves its gap to the next one that has some.
fn push_token_gaps(gaps_ms: &[f64], tokens: &[u32], token_gaps_ms: &mut Vec<f64>) {
    let mut held_ms = 0.0;
    for (gap_ms, count) in gaps_ms.iter().zip(&tokens[1..]) {
        held_ms += gap_ms;
        if 0 < *count {
            let each_ms = held_ms / f64::from(*count);
            token_gaps_ms.extend(std::iter::repeat_n(each_ms, *count as usize));
            held_ms = 0.0;
        }
    }
}

/// The server's count of generated tokens beside what came, over the successful requests with a
/// usage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkCheck {
    /// Requests compared.
    pub requests: usize,
    /// Generated tokens by the server's usage.
    pub usage_tokens: u64,
    /// Chunks that carried tokens.
    pub chunks: u64,
    /// `|usage_tokens - chunks| / usage_tokens`, over all of them.
    pub mismatch: f64,
    /// Whether each chunk's tokens are told, and add up to the usage in every request.
    pub is_told: bool,
}

impl ChunkCheck {
    /// Counts the successful among `records`. `None` without a usage above 0.
    pub fn of(records: &[RequestRecord]) -> Option<ChunkCheck> {
        let counted = || {
            let ok = records.iter().filter(|record| record.is_ok());
            ok.filter_map(|record| Some((record, record.completion_tokens?)))
        };
        let usage_tokens: u64 = counted().map(|(_, tokens)| u64::from(tokens)).sum();
        let chunks: u64 = counted().map(|(record, _)| record.chunks.len() as u64).sum();
        let told = |(record, _): (&RequestRecord, u32)| {
            tokens_of_chunks(record).is_some()
                && record.chunks.iter().all(|chunk| chunk.tokens.is_some())
        };
        (0 < usage_tokens).then(|| ChunkCheck {
            requests: counted().count(),
            usage_tokens,
            chunks,
            mismatch: usage_tokens.abs_diff(chunks) as f64 / usage_tokens as f64,
            is_told: counted().all(told),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TokenChunk;
    use crate::record::tests::answered;

    /// A request with chunks at these milliseconds, each with so many tokens.
    fn chunked(chunks: &[(u64, Option<u32>)], completion_tokens: Option<u32>) -> RequestRecord {
        let mut record = answered(0, 0, [0, 1, 2]);
        let chunk = |&(ms, tokens)| TokenChunk { at_ns: ms * 1_000_000, tokens };
        record.chunks = chunks.iter().map(chunk).collect();
        record.completion_tokens = completion_tokens;
        record
    }

    #[test]
    fn equal_counts_of_chunks_and_tokens_give_exact_gaps() {
        let record = chunked(&[(0, None), (10, None), (40, None)], Some(3));
        let gaps = Gaps::of(&[record]).expect("gaps");
        assert_eq!((gaps.icl_ms.min, gaps.icl_ms.max), (10.0, 30.0));
        assert_eq!(gaps.itl_ms, Some(gaps.icl_ms));
        assert_eq!(gaps.longest_ms.max, 30.0);
    }

    #[test]
    fn a_chunk_of_several_tokens_shares_its_gap_among_them() {
        let record = chunked(&[(0, Some(2)), (30, Some(3)), (40, Some(0)), (60, Some(1))], Some(6));
        let gaps = Gaps::of(&[record]).expect("gaps");
        let itl = gaps.itl_ms.expect("every chunk says its tokens");
        assert_eq!((itl.count, itl.min, itl.max), (4, 10.0, 30.0), "10, 10, 10 and 10 + 20");
        assert_eq!(gaps.icl_ms.count, 3);
    }

    #[test]
    fn unknown_tokens_give_no_gaps_between_tokens() {
        let several = chunked(&[(0, None), (10, None)], Some(5));
        assert_eq!(Gaps::of(std::slice::from_ref(&several)).expect("gaps").itl_ms, None);
        let uncounted = chunked(&[(0, None), (10, None)], None);
        assert_eq!(Gaps::of(&[uncounted]).expect("gaps").itl_ms, None);
        let wrong = chunked(&[(0, Some(1)), (10, Some(1))], Some(5));
        assert_eq!(Gaps::of(&[wrong]).expect("gaps").itl_ms, None, "they do not add up");
        let mut many: Vec<_> = (0..19).map(|_| chunked(&[(0, None), (9, None)], Some(2))).collect();
        many.push(several);
        let itl = Gaps::of(&many).expect("gaps").itl_ms.expect("19 of 20 are known");
        assert_eq!((itl.count, itl.max), (19, 9.0));
    }

    #[test]
    fn one_chunk_has_no_gap() {
        assert_eq!(Gaps::of(&[chunked(&[(5, None)], Some(1))]), None);
    }

    #[test]
    fn chunks_are_checked_against_the_usage() {
        let check = ChunkCheck::of(&[
            chunked(&[(0, None), (1, None)], Some(4)),
            chunked(&[(0, None)], None),
        ]);
        let expected =
            ChunkCheck { requests: 1, usage_tokens: 4, chunks: 2, mismatch: 0.5, is_told: false };
        assert_eq!(check, Some(expected));
        let told = ChunkCheck::of(&[chunked(&[(0, Some(3)), (1, Some(1))], Some(4))]);
        assert!(told.expect("a usage").is_told);
    }
}
