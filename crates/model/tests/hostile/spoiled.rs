//! Files spoiled without a plan: cut, flipped, random or absent.

use std::cell::Cell;
use std::io::Cursor;

use model::config::ModelConfig;
use model::dummy::DummyShape;
use model::file::ModelFile;
use model::gguf::{Gguf, HEADER_BYTES_MAX, ValueKind};
use proptest::prelude::*;

use crate::pieces::{Pieces, Tensor, float, number, value};

fn read_everything(bytes: Vec<u8>) -> bool {
    let Ok(mut file) = ModelFile::from_bytes(bytes) else { return false };
    let names: Vec<String> = file.tensors().iter().map(|tensor| tensor.name.clone()).collect();
    let mut data = Vec::new();
    names.iter().all(|name| file.read_tensor(name, &mut data).is_ok())
}

#[test]
fn a_truncated_file_is_refused_at_every_length() {
    let whole = DummyShape::tiny().gguf(1);
    assert!(read_everything(whole.clone()));
    // The last tensor is a norm, without padding behind it: every byte is needed.
    let others = (300..whole.len()).step_by(whole.len() / 200);
    for len in (0..300).chain(others).chain([whole.len() - 1]) {
        let error = ModelFile::from_bytes(whole[..len].to_vec()).err();
        let message = error.unwrap_or_else(|| panic!("{len} of {} bytes", whole.len())).to_string();
        assert!(!message.is_empty());
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = Pieces::valid().bytes();
    let header = Pieces::valid().header().len();
    let accepted = Cell::new(0);
    let byte = prop_oneof![
        (0_u32..8).prop_map(|bit| (0xff, 1 << bit)),
        any::<u8>().prop_map(|byte| (0, byte))
    ];
    let flips = prop::collection::vec((0..header, byte), 1..=3);
    let files = fuzz::check(20_000, &flips, |flips| {
        let mut bytes = whole.clone();
        for (at, (kept, flipped)) in flips {
            bytes[at] = (bytes[at] & kept) ^ flipped;
        }
        accepted.set(accepted.get() + u64::from(read_everything(bytes)));
        Ok(())
    });
    // Spellings of tokens and neutral keys may change; nearly all the rest is refused.
    let accepted = accepted.get();
    assert!(accepted < files / 2, "{accepted} of {files} spoiled files are accepted");
}

#[test]
fn a_huge_file_of_nothing_takes_no_memory() {
    let mut pieces = Pieces::valid();
    let len = (1_u64 << 40) - 1;
    pieces.entries.insert(0, (b"x".to_vec(), value(ValueKind::Text, &len.to_le_bytes())));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), pieces.bytes()).expect("writing it");
    // A sparse file: no byte of it is on the disk.
    file.as_file().set_len(1 << 40).expect("lengthening it");
    let message = ModelFile::open(file.path()).err().expect("the text is too long").to_string();
    let limit = format!("(a header may take {HEADER_BYTES_MAX} bytes)");
    assert!(message.starts_with("metadata key `x`: needs 1099511627775 bytes"), "{message}");
    assert!(message.ends_with(&limit), "{message}");
}

#[test]
fn a_file_that_does_not_exist_is_named() {
    let error = ModelFile::open(std::path::Path::new("no/such.gguf")).err().expect("no such file");
    assert!(error.to_string().starts_with("cannot open model file no/such.gguf: "), "{error}");
}

/// The rules of shapes and places, in numbers that cannot overflow.
fn fits(tensors: &[Tensor], data_bytes: u64) -> bool {
    const KINDS: [(u32, u128, u128); 3] = [(0, 1, 4), (3, 32, 20), (8, 32, 34)];
    let mut places: Vec<(u128, u128)> = Vec::new();
    for tensor in tensors {
        let (_, block, bytes) =
            KINDS.into_iter().find(|kind| kind.0 == tensor.kind).expect("known");
        let elements = tensor.dimensions.iter().try_fold(1_u128, |p, &n| p.checked_mul(n.into()));
        let Some(elements) = elements.filter(|n| (1..1 << 64).contains(n)) else { return false };
        let end = u128::from(tensor.offset) + elements / block * bytes;
        if u128::from(tensor.dimensions[0]) % block != 0
            || tensor.offset % 32 != 0
            || end > u128::from(data_bytes)
        {
            return false;
        }
        places.push((tensor.offset.into(), end));
    }
    places.sort_unstable();
    places.windows(2).all(|pair| pair[0].1 <= pair[1].0)
}

fn any_tensor() -> impl Strategy<Value = Tensor> {
    let near = |n: u64| (0_u64..4).prop_map(move |d| n.wrapping_sub(2).wrapping_add(d));
    let dimension = prop_oneof![
        4 => prop_oneof![Just(32_u64), Just(64), Just(1), Just(2)],
        1 => 0_u64..70,
        1 => (0_u32..64).prop_flat_map(move |bit| near(1 << bit)),
        1 => any::<u64>(),
    ];
    let offset = prop_oneof![
        4 => (0_u64..300).prop_map(|n| 32 * n),
        1 => (0_u32..64).prop_flat_map(move |bit| near(1 << bit)),
        1 => (0_u64..100).prop_map(|n| u64::MAX - n),
    ];
    (prop::collection::vec(dimension, 1..=4), prop_oneof![Just(0), Just(3), Just(8)], offset)
        .prop_map(|(dimensions, kind, offset)| Tensor {
            name: Vec::new(),
            name_len: None,
            dimension_count: None,
            dimensions,
            kind,
            offset,
        })
}

#[test]
fn shapes_and_places_are_accepted_exactly_when_they_fit() {
    let tensors = prop::collection::vec(any_tensor(), 0..4);
    fuzz::check(20_000, &(tensors, 0_usize..9000), |(mut tensors, data)| {
        for (index, tensor) in tensors.iter_mut().enumerate() {
            tensor.name = vec![b'a' + index as u8];
        }
        let mut pieces = Pieces::valid();
        (pieces.entries, pieces.tensors, pieces.data) = (Vec::new(), tensors, data);
        let parsed = Gguf::parse(Cursor::new(pieces.bytes()));
        prop_assert_eq!(parsed.is_ok(), fits(&pieces.tensors, data as u64), "{:?}", parsed.err());
        Ok(())
    });
}

#[test]
fn any_hyper_parameters_give_an_answer() {
    let keys = [
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "block_count",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "rope.dimension_count",
    ];
    let any_number = prop_oneof![0_u32..100, Just(1 << 20), any::<u32>()];
    let values = prop::collection::vec(any_number, keys.len());
    let floats = [any::<f32>(), any::<f32>()];
    fuzz::check(20_000, &(values, floats), |(values, floats)| {
        let mut pieces = Pieces::valid();
        for (key, value) in keys.iter().zip(values) {
            pieces.set(&format!("llama.{key}"), number(value));
        }
        pieces.set("llama.rope.freq_base", float(floats[0]));
        pieces.set("llama.attention.layer_norm_rms_epsilon", float(floats[1]));
        let gguf = Gguf::parse(Cursor::new(pieces.bytes())).expect("the format is right");
        // Nearly always a refusal, and always one without a panic or a large allocation.
        if let Ok(config) = ModelConfig::from_gguf(&gguf, 4) {
            prop_assert_eq!(config.hidden_size, 32);
        }
        Ok(())
    });
}

#[test]
#[cfg(target_os = "linux")]
fn all_refusals_together_take_little_memory() {
    // The whole of this test binary, whatever has run so far; its largest file has 0.1 MB. Tests
    // start in the order of their names: the huge file and most others come before this one.
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("peak memory");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    assert!(kib < 64 * 1024, "peak memory {kib} KiB");
}
