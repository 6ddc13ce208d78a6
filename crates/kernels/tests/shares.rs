//! Shares of a step that threads compute at the same time.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use kernels::attention::{AttentionScratch, HeadRules, attention};
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::{KvCache, KvShape, KvType, RELEASED};
use kernels::quantise::Activations;
use kernels::rope::{Pairing, RopeTable, Rotation};
use kernels::share::{SequenceRows, Share, share_out};

const TOKENS: usize = 256;
const HEAD_DIM: usize = 32;
/// One query, key and value.
const QKV: usize = 3 * HEAD_DIM;
const LAYERS: usize = 3;

fn cache() -> KvCache {
    KvCache::new(KvShape {
        layers: LAYERS,
        kv_heads: 1,
        head_dim: HEAD_DIM,
        block_size: 64,
        block_count: 8,
        kind: KvType::Bf16,
    })
}

fn sequence(blocks: &[u32]) -> [SequenceRows<'_>; 1] {
    [SequenceRows { row: 0, rows: TOKENS, position: 0, blocks }]
}

fn qkv() -> Vec<f32> {
    (0..TOKENS * QKV).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

/// Attends for a share, layer by layer; gives its rows after each.
fn attend(share: Share<'_>, qkv: &[f32]) -> [Vec<f32>; LAYERS] {
    attend_within(None, share, qkv)
}

/// The same where each position sees the last `window` only.
fn attend_within(window: Option<usize>, mut share: Share<'_>, qkv: &[f32]) -> [Vec<f32>; LAYERS] {
    let mut cpu = Cpu::new(1, Isa::detect());
    let rope = RopeTable::new(TOKENS, &Rotation::new(HEAD_DIM, 10_000.0, Pairing::Adjacent));
    let scale = 1.0 / (HEAD_DIM as f32).sqrt();
    let rules = HeadRules { norms: None, rope: Some(&rope), scale, window };
    let mut scratch = AttentionScratch::default();
    let rows = share.rows();
    let mut out = Activations::new(rows.len(), HEAD_DIM).with_floats(true);
    std::array::from_fn(|_| {
        let qkv = &qkv[rows.start * QKV..rows.end * QKV];
        attention(&mut cpu, &mut share, (qkv, rules), &mut scratch, &mut out);
        out.floats().unwrap().to_vec()
    })
}

/// Fails if `work` has not ended in ten seconds: a share that waits for ever must not hang the tests.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(10)).expect("ended in time, without a panic")
}

#[test]
fn a_prompt_in_many_shares_gives_what_it_gives_whole_even_if_the_first_share_is_late() {
    let whole = {
        let (blocks, mut cache) = ([3, 1, 0, 2], cache());
        attend(share_out(&mut cache, &sequence(&blocks), 1).remove(0), &qkv())
    };
    for count in 2..=4 {
        let parts = in_time(move || {
            let (blocks, mut cache, qkv) = ([3, 1, 0, 2], cache(), qkv());
            let shares = share_out(&mut cache, &sequence(&blocks), count);
            assert_eq!(shares.len(), count);
            thread::scope(|scope| {
                let start = |(index, share)| {
                    let qkv = &qkv;
                    scope.spawn(move || {
                        let late = if index == 0 { 20_000 } else { 0 };
                        (0..late).for_each(|_| thread::yield_now());
                        attend(share, qkv)
                    })
                };
                let threads: Vec<_> = shares.into_iter().enumerate().map(start).collect();
                let parts: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
                std::array::from_fn(|layer| {
                    parts.iter().map(|part| &part[layer][..]).collect::<Vec<_>>().concat()
                })
            })
        });
        assert!(whole == parts, "{count} shares");
    }
}

#[test]
fn a_share_does_not_wait_for_one_that_is_gone() {
    let ended = in_time(|| {
        let (blocks, mut cache, qkv) = ([3, 1, 0, 2], cache(), qkv());
        let mut shares = share_out(&mut cache, &sequence(&blocks), 2);
        let second = shares.remove(1);
        drop(shares);
        thread::scope(|scope| scope.spawn(|| attend(second, &qkv)).join().is_err())
    });
    assert!(ended, "it panics instead of attending to keys that are not there");
}

/// Attends for 64 positions behind 192 others, of which the first sees 63, so that the first two blocks are
/// behind the window.
fn attend_behind(blocks: [u32; 4]) -> [Vec<f32>; LAYERS] {
    let mut cache = cache();
    let rows = SequenceRows { row: 0, rows: 64, position: 192, blocks: &blocks };
    let share = share_out(&mut cache, &[rows], 1).remove(0);
    attend_within(Some(64), share, &qkv())
}

#[test]
fn blocks_behind_the_window_may_be_released() {
    assert!(attend_behind([RELEASED, RELEASED, 0, 1]) == attend_behind([3, 2, 0, 1]));
}

#[test]
#[should_panic(expected = "block 4294967295 of 8")]
fn a_released_block_within_the_window_is_not_read() {
    attend_behind([RELEASED, RELEASED, RELEASED, 1]);
}

#[test]
#[should_panic(expected = "a block is not one of 8")]
fn a_released_block_is_not_written() {
    attend_behind([RELEASED, RELEASED, 0, RELEASED]);
}
