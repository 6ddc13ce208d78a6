//! Lies of the format: header, metadata, the list of tensors, where their data lies.
//!
//! The names in capitals are those of llama.cpp's `test-gguf`, so that readers can compare.

use model::gguf::ValueKind;

use crate::Case;
use crate::gguf::{Parts, array, number, original, text, value};

const MATRIX: &str = "blk.0.attn_q.weight";

pub fn cases() -> Vec<Case> {
    let mut cases = header();
    cases.extend(metadata());
    cases.extend(alignment());
    cases.extend(tensors());
    cases.extend(data());
    cases.extend(truncated());
    cases
}

fn header() -> Vec<Case> {
    let mut cases = vec![
        Case::new("HEADER_BAD_MAGIC", "not a GGUF file", |p| p.magic = *b"ggml"),
        Case::new("HEADER_BAD_MAGIC lower case", "not a GGUF file", |p| p.magic = *b"gguf"),
        Case::new("HEADER_BAD_MAGIC zeros", "not a GGUF file", |p| p.magic = [0; 4]),
        Case::new("HEADER big-endian", "big-endian", |p| p.version = 3_u32.swap_bytes()),
        Case::new("HEADER_EMPTY", "is missing", |p| {
            (p.entries, p.tensors) = (Vec::new(), Vec::new());
        }),
        Case::new("HEADER without tensors", "is missing", |p| p.tensors.clear()),
        Case::new("HEADER without metadata", "is missing", |p| p.entries.clear()),
    ];
    for (name, version) in
        [("VERSION_0", 0), ("VERSION_1", 1), ("VERSION_FUTURE", 4), ("VERSION_MAX", u32::MAX)]
    {
        let spoil = |p: &mut Parts| p.version = version;
        cases.push(Case::new(format!("HEADER_{name}"), "GGUF version", spoil));
    }
    let counts = [u64::MAX, 1 << 63, i64::MAX as u64, 1 << 32, 65_537];
    for count in counts {
        let (tensors, entries) = ("HEADER_N_TENSORS", "HEADER_N_KV");
        cases.push(Case::new(tensors, "number of tensors", |p| p.tensor_count = Some(count)));
        cases.push(Case::new(entries, "number of metadata", |p| p.entry_count = Some(count)));
    }
    // One more or fewer than there are: what follows is read as what it is not.
    for difference in [-1_i64, 1] {
        let shifted = |count: usize| Some((count as i64 + difference) as u64);
        cases.push(Case::new("HEADER_N_TENSORS off by one", "", |p| {
            p.tensor_count = shifted(p.tensors.len());
        }));
        cases.push(Case::new("HEADER_N_KV off by one", "", |p| {
            p.entry_count = shifted(p.entries.len());
        }));
    }
    cases
}

fn metadata() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [u64::MAX, 1 << 63, 1 << 40, 65_536, 0] {
        // The first key's length lies behind magic, version and the two counts.
        let mut case = Case::new(format!("KV_BAD_KEY_SIZE {len}"), "metadata entry 1", |_| ());
        case.bytes[24..32].copy_from_slice(&len.to_le_bytes());
        cases.push(case);
    }
    let mut add = |name: &str, cause: &str, key: &[u8], value: Vec<u8>| {
        cases.push(Case::new(name, cause, |p| p.entries.push((key.to_vec(), value))));
    };
    add("KV_EMPTY_KEY", "the key is empty", b"", number(1));
    add("KV key is not text", "is not UTF-8 text", b"\xff", number(1));
    add("KV_DUPLICATE_KEY", "occurs twice", b"general.name", number(1));
    for kind in [13_u32, 255, 1 << 31, u32::MAX] {
        add("KV_BAD_TYPE", "does not exist", b"x", kind.to_le_bytes().to_vec());
        let array = [&kind.to_le_bytes()[..], &[0; 8]].concat();
        add("KV array of BAD_TYPE", "does not exist", b"x", value(ValueKind::Array, &array));
    }
    add("KV array of arrays", "arrays of arrays", b"x", array(ValueKind::Array, 1, &[0; 12]));
    for byte in [2, 128, 255] {
        add("KV boolean", "is not a boolean", b"x", value(ValueKind::Bool, &[byte]));
    }
    for bytes in [&b"\xc3"[..], b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"] {
        add("KV value is not text", "UTF-8", b"x", value(ValueKind::Text, &text(bytes)));
    }
    for len in [1 << 20, 1 << 31, u64::MAX / 4, u64::MAX] {
        for kind in ValueKind::ALL.into_iter().filter(|&kind| kind != ValueKind::Array) {
            add("KV array beyond the file", "needs", b"x", array(kind, len, &[]));
        }
        add("KV text beyond the file", "needs", b"x", value(ValueKind::Text, &len.to_le_bytes()));
    }
    cases
}

fn alignment() -> Vec<Case> {
    let key = "general.alignment";
    let mut cases = Vec::new();
    for alignment in [0, 1, 4, 7, 33, 48, 1 << 31, u32::MAX] {
        let set = |p: &mut Parts| p.set(key, number(alignment));
        cases.push(Case::new(format!("KV_BAD_ALIGN {alignment}"), key, set));
    }
    for kind in ValueKind::ALL.into_iter().filter(|&kind| kind != ValueKind::U32) {
        let set = |p: &mut Parts| p.set(key, crate::gguf::any_value(kind));
        cases.push(Case::new(format!("KV_WRONG_TYPE_ALIGN {}", kind.name()), key, set));
    }
    // The data was laid out for 32.
    for alignment in [4096, 1 << 16, 1 << 30] {
        let set = |p: &mut Parts| p.set(key, number(alignment));
        cases.push(Case::new("TENSORS_INCONSISTENT_ALIGN", "tensor `", set));
    }
    cases
}

fn tensors() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [0, 65, 1 << 32, u64::MAX] {
        let spoil = |p: &mut Parts| p.tensor(MATRIX).name_len = Some(len);
        cases.push(Case::new(format!("TENSORS_BAD_NAME_SIZE {len}"), "a name of", spoil));
    }
    for count in [0, 5, u32::MAX] {
        let spoil = |p: &mut Parts| p.tensor(MATRIX).dimension_count = Some(count);
        cases.push(Case::new(format!("TENSORS_N_DIMS {count}"), "dimensions", spoil));
    }
    for kind in [2_000, 4, 5, 9, 10, 12, 16, 24, 28, u32::MAX] {
        let spoil = |p: &mut Parts| p.tensor("blk.0.attn_norm.weight").kind = kind;
        cases.push(Case::new(format!("TENSORS_BAD_TYPE {kind}"), "tensor `", spoil));
    }
    for (name, dimensions) in [
        ("TENSORS_SHAPE transposed", vec![64, 256]),
        ("TENSORS_SHAPE one row more", vec![64, 129]),
        ("TENSORS_SHAPE vector", vec![8192]),
        ("TENSORS_SHAPE not whole blocks", vec![33, 128]),
        ("TENSORS_ZERO_DIM", vec![0, 128]),
        ("TENSORS_ZERO_DIM", vec![64, 0]),
        ("TENSORS_ZERO_DIM", vec![0, 0, 0, 0]),
        ("TENSORS_NE_TOO_BIG", vec![u64::MAX, u64::MAX]),
        ("TENSORS_NE_TOO_BIG", vec![1 << 32, 1 << 32]),
        ("TENSORS_NE_TOO_BIG", vec![1 << 16, 1 << 16, 1 << 16, 1 << 16]),
        ("TENSORS_NBYTES_TOO_BIG", vec![1 << 62]),
        ("TENSORS_NBYTES_TOO_BIG", vec![1 << 63]),
        ("TENSORS_NBYTES_TOO_BIG", vec![(u64::MAX / 20 + 1).next_multiple_of(32)]),
        ("TENSORS_NBYTES_PAD_WRAP", vec![u64::MAX - 31]),
        ("TENSORS_NBYTES_PAD_WRAP", vec![(u64::MAX / 20).next_multiple_of(32) * 16]),
    ] {
        let spoil = |p: &mut Parts| p.tensor(MATRIX).dimensions = dimensions;
        cases.push(Case::new(name, format!("`{MATRIX}`"), spoil));
    }
    cases.push(Case::new("TENSORS name is not text", "UTF-8", |p| {
        p.tensor(MATRIX).name = vec![0xff, 0xfe];
    }));
    cases.push(Case::new("TENSORS_DUPLICATE_NAME", "occurs twice", |p| {
        let tensor = p.tensor(MATRIX).clone();
        p.tensors.push(tensor);
    }));
    cases.push(Case::new("TENSORS renamed", "tensor `", |p| {
        p.tensor(MATRIX).name = b"../../../../etc/passwd".to_vec();
    }));
    cases
}

fn data() -> Vec<Case> {
    let norm = "output_norm.weight";
    let mut cases = Vec::new();
    for offset in [1, 7, 31] {
        let spoil = |p: &mut Parts| p.tensor(norm).offset += offset;
        cases.push(Case::new(format!("TENSORS_BAD_OFFSET {offset}"), "alignment", spoil));
    }
    for offset in [1 << 40, 1 << 62, 1 << 63, u64::MAX - 31, u64::MAX - 127, u64::MAX - 255] {
        let spoil = |p: &mut Parts| p.tensor(norm).offset = offset;
        cases.push(Case::new(format!("DATA_MEM_SIZE_OVERFLOW {offset}"), "beyond", spoil));
    }
    for missing in [1, 32, 4_096] {
        let cut = |p: &mut Parts| p.data.truncate(p.data.len() - missing);
        cases.push(Case::new("DATA_NOT_ENOUGH", "is the file complete?", cut));
    }
    cases.push(Case::new("DATA none at all", "is the file complete?", |p| p.data.clear()));
    // Tensors that share bytes: two, all, one inside another, a chain of halves.
    cases.push(Case::new("DATA overlap of two", "overlap", |p| {
        let offset = p.tensor(MATRIX).offset;
        p.tensor("blk.1.ffn_up.weight").offset = offset;
    }));
    cases.push(Case::new("DATA overlap by one block", "overlap", |p| {
        let offset = p.tensor("blk.1.attn_norm.weight").offset;
        p.tensor(norm).offset = offset + 224;
    }));
    cases.push(Case::new("DATA overlap, one inside another", "overlap", |p| {
        let offset = p.tensor("token_embd.weight").offset;
        p.tensor(norm).offset = offset + 4_096;
    }));
    cases.push(Case::new("DATA overlap of all", "overlap", |p| {
        p.tensors.iter_mut().for_each(|tensor| tensor.offset = 0);
    }));
    cases.push(Case::new("DATA overlap in a chain", "overlap", |p| {
        p.tensors.iter_mut().for_each(|tensor| tensor.offset = tensor.offset / 64 * 32);
    }));
    cases
}

/// Cut at the ends of its parts and at lengths in between.
fn truncated() -> Vec<Case> {
    let whole = original();
    let early = [0, 1, 3, 4, 7, 8, 15, 16, 23, 24, 31, 32];
    let scattered = (1..40).map(|part| whole.len() * part / 40 + part);
    let lengths = early.into_iter().chain(scattered).chain([whole.len() - 1]);
    let cut = |len: usize| Case {
        name: format!("cut to {len} of {} bytes", whole.len()),
        bytes: whole[..len].to_vec(),
        cause: String::new(),
    };
    lengths.map(cut).collect()
}
