//! Model files that lie: each is refused with a message that says where and why, without a panic
//! and without memory for what is not there.
//!
//! The names in the table of format errors are those of llama.cpp's `test-gguf`, so that readers
//! can compare.

use std::io::Cursor;

use model::{
    config::ModelConfig,
    dummy::DummyShape,
    file::ModelFile,
    gguf::{Gguf, HEADER_BYTES_MAX, ValueKind},
};
use proptest::prelude::*;

/// A file in pieces, each of which a test may spoil.
#[derive(Debug, Clone)]
struct Pieces {
    magic: [u8; 4],
    version: u32,
    tensor_count: Option<u64>,
    entry_count: Option<u64>,
    /// Key with type and value as stored.
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    tensors: Vec<Tensor>,
    alignment: usize,
    data: usize,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: Vec<u8>,
    name_len: Option<u64>,
    dimension_count: Option<u32>,
    /// In the file's order: innermost first.
    dimensions: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

fn value(kind: ValueKind, bytes: &[u8]) -> Vec<u8> {
    [&kind.id().to_le_bytes(), bytes].concat()
}

fn number(n: u32) -> Vec<u8> {
    value(ValueKind::U32, &n.to_le_bytes())
}

fn float(x: f32) -> Vec<u8> {
    value(ValueKind::F32, &x.to_le_bytes())
}

fn word(word: &str) -> Vec<u8> {
    value(ValueKind::Text, &text(word.as_bytes()))
}

fn array(kind: ValueKind, count: u64, items: &[u8]) -> Vec<u8> {
    let head = [&kind.id().to_le_bytes()[..], &count.to_le_bytes()].concat();
    value(ValueKind::Array, &[&head[..], items].concat())
}

fn words(words: &[&str]) -> Vec<u8> {
    let items: Vec<u8> = words.iter().flat_map(|word| text(word.as_bytes())).collect();
    array(ValueKind::Text, words.len() as u64, &items)
}

/// Some value of each kind, of the least size.
fn any_value(kind: ValueKind) -> Vec<u8> {
    match kind {
        ValueKind::Array => array(ValueKind::U8, 0, &[]),
        _ => value(kind, &vec![0; kind.min_bytes() as usize]),
    }
}

impl Pieces {
    /// A valid model of one layer and four tokens, all weights zero.
    fn valid() -> Self {
        let kinds: Vec<u8> = [3_i32, 3, 1, 1].iter().flat_map(|kind| kind.to_le_bytes()).collect();
        let entries = [
            ("general.architecture", word("llama")),
            ("llama.vocab_size", number(4)),
            ("llama.context_length", number(64)),
            ("llama.embedding_length", number(32)),
            ("llama.feed_forward_length", number(48)),
            ("llama.block_count", number(1)),
            ("llama.attention.head_count", number(4)),
            ("llama.attention.head_count_kv", number(2)),
            ("llama.attention.layer_norm_rms_epsilon", float(1e-5)),
            ("llama.rope.freq_base", float(10_000.0)),
            ("llama.rope.dimension_count", number(8)),
            ("tokenizer.ggml.model", word("gpt2")),
            ("tokenizer.ggml.pre", word("smollm")),
            ("tokenizer.ggml.tokens", words(&["<s>", "</s>", "a", "b"])),
            ("tokenizer.ggml.token_type", array(ValueKind::I32, 4, &kinds)),
            ("tokenizer.ggml.merges", words(&[])),
            ("tokenizer.ggml.bos_token_id", number(0)),
            ("tokenizer.ggml.eos_token_id", number(1)),
        ];
        let mut pieces = Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            entry_count: None,
            entries: entries.map(|(key, value)| (key.into(), value)).to_vec(),
            tensors: Vec::new(),
            alignment: 32,
            data: 0,
        };
        for (name, dimensions) in [
            ("token_embd", vec![32, 4]),
            ("blk.0.attn_norm", vec![32]),
            ("blk.0.attn_q", vec![32, 32]),
            ("blk.0.attn_k", vec![32, 16]),
            ("blk.0.attn_v", vec![32, 16]),
            ("blk.0.attn_output", vec![32, 32]),
            ("blk.0.ffn_norm", vec![32]),
            ("blk.0.ffn_gate", vec![32, 48]),
            ("blk.0.ffn_up", vec![32, 48]),
            ("blk.0.ffn_down", vec![48, 32]),
            ("output_norm", vec![32]),
        ] {
            pieces.add(&format!("{name}.weight"), dimensions);
        }
        pieces
    }

    /// Adds an F32 tensor behind the others.
    fn add(&mut self, name: &str, dimensions: Vec<u64>) {
        let (bytes, offset) = (4 * dimensions.iter().product::<u64>(), self.data as u64);
        self.data += (bytes as usize).next_multiple_of(self.alignment);
        self.tensors.push(Tensor {
            name: name.into(),
            name_len: None,
            dimension_count: None,
            dimensions,
            kind: 0,
            offset,
        });
    }

    fn set(&mut self, key: &str, value: Vec<u8>) {
        match self.entries.iter_mut().find(|entry| entry.0 == key.as_bytes()) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key.into(), value)),
        }
    }

    fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.0 != key.as_bytes());
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name.as_bytes());
        found.expect("a tensor of the valid file")
    }

    fn header(&self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        let tensor_count = self.tensors.len() as u64;
        file.extend(self.tensor_count.unwrap_or(tensor_count).to_le_bytes());
        let entry_count = self.entries.len() as u64;
        file.extend(self.entry_count.unwrap_or(entry_count).to_le_bytes());
        for (key, value) in &self.entries {
            file.extend(text(key));
            file.extend(value);
        }
        for tensor in &self.tensors {
            let len = tensor.name.len() as u64;
            file.extend(tensor.name_len.unwrap_or(len).to_le_bytes());
            file.extend(&tensor.name);
            let dimensions = tensor.dimensions.len() as u32;
            file.extend(tensor.dimension_count.unwrap_or(dimensions).to_le_bytes());
            file.extend(tensor.dimensions.iter().flat_map(|n| n.to_le_bytes()));
            file.extend(tensor.kind.to_le_bytes());
            file.extend(tensor.offset.to_le_bytes());
        }
        file
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = self.header();
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file.resize(file.len() + self.data, 0);
        file
    }
}

/// What opening the spoiled file says.
fn refusal(spoil: impl FnOnce(&mut Pieces)) -> String {
    let mut pieces = Pieces::valid();
    spoil(&mut pieces);
    match ModelFile::from_bytes(pieces.bytes()) {
        Ok(_) => panic!("the file is accepted"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn refused(case: &str, message: &str, spoil: impl FnOnce(&mut Pieces)) {
    assert_eq!(refusal(spoil), message, "{case}");
}

#[track_caller]
fn accepted(case: &str, change: impl FnOnce(&mut Pieces)) -> ModelFile {
    let mut pieces = Pieces::valid();
    change(&mut pieces);
    ModelFile::from_bytes(pieces.bytes()).unwrap_or_else(|error| panic!("{case}: {error}"))
}

#[test]
fn a_header_that_lies_is_refused() {
    refused(
        "HEADER_BAD_MAGIC",
        "not a GGUF file: it starts with [67, 67, 6d, 6c] and not with the letters `GGUF`",
        |p| p.magic = *b"ggml",
    );
    for (case, version) in [("VERSION_0", 0), ("VERSION_1", 1), ("VERSION_FUTURE", 4)] {
        let message = format!("GGUF version {version} is not supported; versions 2 and 3 are");
        refused(case, &message, |p| p.version = version);
    }
    refused(
        "big-endian",
        "the GGUF file is big-endian; only little-endian files are supported",
        |p| p.version = 3_u32.swap_bytes(),
    );
    refused(
        "HEADER_N_TENSORS",
        "the number of tensors: 18446744073709551615 is too many, at most 65536 are accepted",
        |p| p.tensor_count = Some(u64::MAX),
    );
    refused(
        "HEADER_N_KV",
        "the number of metadata entries: 18446744073709551615 is too many, at most 65536 are \
         accepted",
        |p| p.entry_count = Some(u64::MAX),
    );
    refused("HEADER_EMPTY", "metadata key `tokenizer.ggml.model` is missing", |p| {
        (p.entries, p.tensors) = (Vec::new(), Vec::new());
    });
    let message = refusal(|p| p.entry_count = Some(65_536));
    assert!(message.starts_with("the number of metadata entries: needs 917504 bytes"), "{message}");
    let message = refusal(|p| p.tensor_count = Some(60_000));
    assert!(message.starts_with("the number of tensors: needs 1980000 bytes"), "{message}");
    // A count that fits the file but not its contents.
    assert!(!refusal(|p| p.entry_count = Some(19)).is_empty());
    assert!(!refusal(|p| p.entry_count = Some(17)).is_empty());
    assert!(!refusal(|p| p.tensor_count = Some(12)).is_empty());
    accepted("version 2", |p| p.version = 2);
}

#[test]
fn metadata_that_lies_is_refused() {
    let mut bytes = Pieces::valid().bytes();
    // The first key's length lies behind magic, version and the two counts.
    bytes[24..32].fill(0xff);
    assert_eq!(
        ModelFile::from_bytes(bytes).err().expect("KV_BAD_KEY_SIZE").to_string(),
        "metadata entry 1 of 18: bytes of the key: 18446744073709551615 is too many, at most \
         65535 are accepted"
    );
    refused("KV_EMPTY_KEY", "metadata entry 19 of 19: the key is empty", |p| {
        p.entries.push((vec![], number(1)));
    });
    refused("key is not text", "metadata entry 19 of 19: is not UTF-8 text", |p| {
        p.entries.push((vec![0xff], number(1)));
    });
    refused("KV_BAD_TYPE", "metadata key `x`: value type 13 does not exist (0 to 12 do)", |p| {
        p.set("x", 13_u32.to_le_bytes().to_vec())
    });
    refused(
        "array of a bad type",
        "metadata key `x`: value type 4294967295 does not exist (0 to 12 do)",
        |p| p.set("x", value(ValueKind::Array, &[0xff; 12])),
    );
    refused("array of arrays", "metadata key `x`: arrays of arrays are not supported", |p| {
        p.set("x", array(ValueKind::Array, 1, &[0; 12]));
    });
    refused("KV_DUPLICATE_KEY", "metadata key `x` occurs twice", |p| {
        p.entries.push((b"x".to_vec(), number(1)));
        p.entries.push((b"x".to_vec(), number(1)));
    });
    refused("boolean of 2", "metadata key `x`: 2 is not a boolean (0 or 1)", |p| {
        p.set("x", value(ValueKind::Bool, &[2]));
    });
    refused("value is not text", "metadata key `x`: is not UTF-8 text", |p| {
        p.set("x", value(ValueKind::Text, &text(&[0xc3])));
    });
    for len in [1 << 20, u64::MAX / 4, u64::MAX] {
        for kind in ValueKind::ALL.into_iter().filter(|&kind| kind != ValueKind::Array) {
            let message = refusal(|p| p.set("x", array(kind, len, &[])));
            assert!(message.starts_with("metadata key `x`: needs "), "{kind:?}: {message}");
        }
        let message = refusal(|p| p.set("x", value(ValueKind::Text, &len.to_le_bytes())));
        assert!(message.starts_with(&format!("metadata key `x`: needs {len} bytes")), "{message}");
    }
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_refused() {
    for alignment in [0, 1, 4, 7, 33, 48, u32::MAX, 1 << 31] {
        let message = format!(
            "metadata key `general.alignment`: {alignment} is refused, expected a power of two \
             from 8 to 1073741824"
        );
        refused("KV_BAD_ALIGN", &message, |p| p.set("general.alignment", number(alignment)));
    }
    refused(
        "KV_WRONG_TYPE_ALIGN",
        "metadata key `general.alignment`: 32 is refused, expected a number of type u32",
        |p| p.set("general.alignment", value(ValueKind::U64, &32_u64.to_le_bytes())),
    );
    refused(
        "TENSORS_INCONSISTENT_ALIGN",
        "tensor `b`: data offset 64 is not a multiple of the alignment 128",
        |p| {
            p.set("general.alignment", number(128));
            p.tensors.clear();
            p.data = 0;
            p.alignment = 64;
            p.add("a", vec![1]);
            p.add("b", vec![1]);
        },
    );
    accepted("TENSORS_CUSTOM_ALIGN", |p| {
        p.set("general.alignment", number(8));
        p.alignment = 8;
        (p.data, p.tensors) = (0, Vec::new());
        let valid = Pieces::valid();
        for tensor in valid.tensors {
            let name = String::from_utf8(tensor.name).expect("names of the valid file");
            p.add(&name, tensor.dimensions);
        }
    });
}

#[test]
fn a_tensor_list_that_lies_is_refused() {
    const NAME: &str = "blk.0.attn_q.weight";
    let entry = "entry 3 of 11 in the tensor list";
    for len in [0, 65, u64::MAX] {
        let message = format!("{entry}: a name of {len} bytes, expected 1 to 64");
        refused("TENSORS_BAD_NAME_SIZE", &message, |p| p.tensor(NAME).name_len = Some(len));
    }
    refused("name is not text", &format!("{entry}: is not UTF-8 text"), |p| {
        p.tensor(NAME).name = vec![0xff, 0xfe];
    });
    for count in [0, 5, u32::MAX] {
        let message = format!("tensor `{NAME}`: {count} dimensions, expected 1 to 4");
        refused("TENSORS_N_DIMS", &message, |p| p.tensor(NAME).dimension_count = Some(count));
    }
    refused(
        "TENSORS_SHAPE",
        "tensor `blk.0.attn_q.weight`: shape [16, 64], expected [32, 32]",
        |p| p.tensor(NAME).dimensions = vec![64, 16],
    );
    for dimensions in [vec![0, 32], vec![32, 0]] {
        let message = refusal(|p| p.tensor(NAME).dimensions = dimensions);
        assert!(message.ends_with("has no elements"), "TENSORS_ZERO_DIM: {message}");
    }
    for (case, dimensions) in [
        ("TENSORS_NE_TOO_BIG", vec![u64::MAX, u64::MAX]),
        ("TENSORS_NE_TOO_BIG", vec![1 << 32, 1 << 32]),
        ("TENSORS_NBYTES_TOO_BIG", vec![1 << 62]),
        ("TENSORS_NBYTES_TOO_BIG", vec![u64::MAX / 4 + 2]),
        ("TENSORS_NBYTES_PAD_WRAP", vec![(u64::MAX - 3) / 4]),
    ] {
        let message = refusal(|p| p.tensor(NAME).dimensions = dimensions);
        assert!(message.ends_with("has more bytes than a file can"), "{case}: {message}");
    }
    refused("TENSORS_DUPLICATE_NAME", &format!("tensor `{NAME}` occurs twice"), |p| {
        let tensor = p.tensor(NAME).clone();
        p.tensors.push(tensor);
    });
    for (id, name) in [(12, "Q4_K"), (14, "Q6_K"), (24, "I8"), (39, "MXFP4"), (77, "number 77")] {
        let message = format!(
            "tensor `{NAME}`: type {name} is not supported; \
             F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 are"
        );
        refused("TENSORS_BAD_TYPE", &message, |p| p.tensor(NAME).kind = id);
    }
    refused(
        "rows of broken blocks",
        "tensor `output_norm.weight`: shape [33] has rows that are not a multiple of 32, a block \
         of Q4_1",
        |p| {
            let tensor = p.tensor("output_norm.weight");
            (tensor.kind, tensor.dimensions) = (3, vec![33]);
        },
    );
}

#[test]
fn tensor_data_outside_the_file_or_shared_is_refused() {
    const NAME: &str = "output_norm.weight";
    let data_bytes = Pieces::valid().data as u64;
    refused(
        "TENSORS_BAD_OFFSET",
        &format!("tensor `{NAME}`: data offset 7 is not a multiple of the alignment 32"),
        |p| p.tensor(NAME).offset = 7,
    );
    for offset in [data_bytes, 1 << 62, u64::MAX - 31, u64::MAX - 127] {
        let message = format!(
            "tensor `{NAME}`: 128 bytes at data offset {offset} reach beyond the end of the file \
             ({data_bytes} bytes of data); is the file complete?"
        );
        refused("DATA_MEM_SIZE_OVERFLOW", &message, |p| p.tensor(NAME).offset = offset);
    }
    let message = refusal(|p| p.data -= 1);
    assert!(message.contains("is the file complete?"), "DATA_NOT_ENOUGH: {message}");
    refused(
        "shared bytes",
        "tensors `blk.0.attn_q.weight` and `blk.0.ffn_up.weight` overlap in the file",
        |p| {
            let offset = p.tensor("blk.0.attn_q.weight").offset;
            p.tensor("blk.0.ffn_up.weight").offset = offset + 64;
        },
    );
}

#[test]
fn tensors_other_than_the_architectures_are_refused_by_name() {
    for name in ["rope_freqs.weight", "blk.0.attn_q.bias", "blk.1.attn_norm.weight"] {
        let message = format!(
            "tensor `{name}` of shape [32] is not part of a `llama` model as supported here: the \
             model would give wrong text without it"
        );
        refused("an extra tensor", &message, |p| p.add(name, vec![32]));
    }
    for index in 0..Pieces::valid().tensors.len() {
        let mut pieces = Pieces::valid();
        let removed = pieces.tensors.remove(index);
        let name = String::from_utf8(removed.name).expect("names of the valid file");
        let error = ModelFile::from_bytes(pieces.bytes()).err().expect("a tensor is missing");
        let message = error.to_string();
        assert!(message.starts_with(&format!("tensor `{name}` of shape")), "{message}");
        assert!(message.ends_with("is missing"), "{message}");
    }
    refused(
        "a head of the wrong shape",
        "tensor `output.weight`: shape [4, 16], expected [4, 32]",
        |p| p.add("output.weight", vec![16, 4]),
    );
    let untied = accepted("a head of its own", |p| p.add("output.weight", vec![32, 4]));
    assert!(!untied.config.tied_head);
    assert!(accepted("as it is", |_| ()).config.tied_head);
}

#[test]
fn hyper_parameters_that_cannot_be_computed_with_are_refused() {
    let numbers = [
        "llama.vocab_size",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.rope.dimension_count",
    ];
    for key in numbers {
        for bad in [0, u32::MAX, 1 << 31] {
            let message = refusal(|p| p.set(key, number(bad)));
            assert!(message.contains(&format!("`{key}`: {bad} is refused")), "{message}");
        }
        let message = refusal(|p| p.set(key, value(ValueKind::I32, &(-1_i32).to_le_bytes())));
        assert!(message.contains("-1 is refused"), "{key}: {message}");
    }
    for (key, bad) in [
        ("llama.rope.freq_base", [0.0, -1.0, f32::NAN, f32::INFINITY]),
        ("llama.attention.layer_norm_rms_epsilon", [0.0, -1e-5, f32::NAN, 1.0]),
    ] {
        for bad in bad {
            let message = refusal(|p| p.set(key, float(bad)));
            assert!(message.contains(&format!("`{key}`: {bad} is refused")), "{message}");
        }
    }
    let message = refusal(|p| p.set("llama.attention.head_count_kv", number(3)));
    assert!(message.ends_with("expected a divisor of llama.attention.head_count, 4"), "{message}");
    let message = refusal(|p| {
        p.set("llama.attention.head_count", number(5));
        p.set("llama.attention.head_count_kv", number(5));
    });
    assert!(message.ends_with("expected a divisor of llama.embedding_length, 32"), "{message}");
    let message = refusal(|p| p.set("llama.attention.key_length", number(7)));
    assert!(message.contains("7 is refused, expected an even number"), "{message}");
    refused(
        "a vocabulary of another size",
        "metadata key `llama.vocab_size`: 5 is refused, expected 4, the number of tokens in \
         tokenizer.ggml.tokens",
        |p| p.set("llama.vocab_size", number(5)),
    );
    refused(
        "an embedding of another size",
        "tensor `token_embd.weight`: shape [4, 32], expected [3, 32]",
        |p| {
            p.remove("llama.vocab_size");
            p.set("tokenizer.ggml.tokens", words(&["<s>", "</s>", "a"]));
            p.set("tokenizer.ggml.token_type", array(ValueKind::I32, 3, &[1, 0, 0, 0].repeat(3)));
        },
    );
}

#[test]
fn what_would_change_the_computation_is_refused_by_name() {
    refused(
        "another architecture",
        "metadata key `general.architecture`: `gemma3` is refused, expected `llama`",
        |p| p.set("general.architecture", word("gemma3")),
    );
    for (key, value, shown) in [
        ("llama.rope.scaling.type", word("yarn"), "`yarn`"),
        ("llama.rope.scaling.factor", float(8.0), "8"),
        ("llama.rope.scale_linear", float(2.0), "2"),
        ("llama.expert_count", number(8), "8"),
        ("llama.attention.sliding_window", number(4096), "4096"),
        ("llama.made_up_key", words(&["x"]), "an array of 1 texts"),
    ] {
        let message = format!(
            "metadata key `{key}` = {shown} is not supported: the model would give wrong text \
             without it"
        );
        refused("a key that is not understood", &message, |p| p.set(key, value));
    }
    for (key, value) in [
        ("llama.rope.scaling.type", word("none")),
        ("llama.expert_count", number(0)),
        ("general.made_up_key", number(1)),
        ("gemma3.block_count", number(1)),
    ] {
        accepted("a key that changes nothing", |p| p.set(key, value));
    }
    refused(
        "another tokenizer",
        "metadata key `tokenizer.ggml.model`: `llama` is refused, expected `gpt2` (byte-level BPE)",
        |p| p.set("tokenizer.ggml.model", word("llama")),
    );
}

#[test]
fn absent_keys_have_the_values_the_format_gives_them() {
    let file = accepted("no optional key", |p| {
        for key in [
            "llama.vocab_size",
            "llama.attention.head_count_kv",
            "llama.rope.freq_base",
            "llama.rope.dimension_count",
            "tokenizer.ggml.bos_token_id",
            "tokenizer.ggml.eos_token_id",
        ] {
            p.remove(key);
        }
        // As many heads for keys as for queries.
        for (name, rows) in [("attn_k", 32), ("attn_v", 32)] {
            p.tensors.retain(|tensor| tensor.name != format!("blk.0.{name}.weight").as_bytes());
            p.add(&format!("blk.0.{name}.weight"), vec![32, rows]);
        }
    });
    assert_eq!(file.config.kv_head_count, 4);
    assert_eq!(file.config.rope_theta, 10_000.0);
    assert_eq!(file.config.head_dim, 8);
    assert_eq!((file.tokenizer.bos, file.tokenizer.end_tokens), (None, vec![]));
    for key in [
        "general.architecture",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.merges",
    ] {
        refused(key, &format!("metadata key `{key}` is missing"), |p| p.remove(key));
    }
}

#[test]
fn tokenizer_keys_are_refused_when_of_another_type_length_or_range() {
    use ValueKind::{Bool, Text};
    let integers = |kind: ValueKind| kind.name().contains(['u', 'i']) && kind.name().len() < 4;
    type Accepts = fn(ValueKind) -> bool;
    let scalars: [(&str, Accepts); 7] = [
        ("tokenizer.ggml.model", |kind| kind == Text),
        ("tokenizer.ggml.pre", |kind| kind == Text),
        ("tokenizer.chat_template", |kind| kind == Text),
        ("general.name", |kind| kind == Text),
        ("tokenizer.ggml.add_bos_token", |kind| kind == Bool),
        ("tokenizer.ggml.tokens", |_| false),
        ("tokenizer.ggml.token_type", |_| false),
    ];
    for kind in ValueKind::ALL {
        for (key, _) in scalars.iter().filter(|(_, right)| !right(kind)) {
            let message = refusal(|p| p.set(key, any_value(kind)));
            assert!(
                message.starts_with(&format!("metadata key `{key}`: the value is ")),
                "{message}"
            );
        }
        for name in ["bos", "eos", "eot", "eom"].into_iter().filter(|_| !integers(kind)) {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let message = refusal(|p| p.set(&key, any_value(kind)));
            assert!(message.ends_with("expected an integer"), "{message}");
        }
        for key in ["tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type"] {
            let wanted = if key.ends_with("type") { ValueKind::I32 } else { Text };
            if kind == wanted || kind == ValueKind::Array {
                continue;
            }
            let items = vec![0; 4 * kind.min_bytes() as usize];
            let message = refusal(|p| p.set(key, array(kind, 4, &items)));
            assert!(
                message.starts_with(&format!("metadata key `{key}`: the value is ")),
                "{message}"
            );
        }
    }
    for count in [0, 3, 5] {
        let message = format!(
            "metadata key `tokenizer.ggml.token_type`: an array of {count} is refused, expected 4 \
             entries, one for each token"
        );
        let kinds = [1, 0, 0, 0].repeat(count);
        refused("kinds of another length", &message, |p| {
            p.set("tokenizer.ggml.token_type", array(ValueKind::I32, count as u64, &kinds));
        });
    }
    refused(
        "a kind that does not exist",
        "metadata key `tokenizer.ggml.token_type`: 7 for token 0 is refused, expected 1 to 6",
        |p| p.set("tokenizer.ggml.token_type", array(ValueKind::I32, 4, &[7, 0, 0, 0].repeat(4))),
    );
    for name in ["bos", "eos", "eot", "eom"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let message =
            format!("metadata key `{key}`: 4 is refused, expected below 4, the number of tokens");
        refused("an id beyond the vocabulary", &message, |p| p.set(&key, number(4)));
    }
}

#[test]
fn end_tokens_are_those_the_file_names_each_once() {
    let file = accepted("three names, two tokens", |p| {
        p.set("tokenizer.ggml.eot_token_id", number(3));
        p.set("tokenizer.ggml.eom_token_id", number(1));
    });
    assert_eq!(file.tokenizer.end_tokens, [1, 3]);
}

#[test]
fn a_begin_token_is_put_before_prompts_where_the_file_or_its_pre_tokenizer_says_so() {
    let add_bos = |pre: &str, key: Option<bool>| {
        accepted(pre, |p| {
            p.set("tokenizer.ggml.pre", word(pre));
            if let Some(add) = key {
                p.set("tokenizer.ggml.add_bos_token", value(ValueKind::Bool, &[u8::from(add)]));
            }
        })
        .tokenizer
        .add_bos
    };
    assert!(!add_bos("smollm", None));
    assert!(add_bos("smollm", Some(true)));
    assert!(add_bos("llama-bpe", None));
    assert!(!add_bos("llama-bpe", Some(false)));
    let message = refusal(|p| {
        p.remove("tokenizer.ggml.bos_token_id");
        p.set("tokenizer.ggml.add_bos_token", value(ValueKind::Bool, &[1]));
    });
    assert!(message.ends_with("expected tokenizer.ggml.bos_token_id beside it"), "{message}");
}

/// A small generator for the tests that spoil bytes; the seed is in the failure's message.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

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
    let mut next = numbers(11);
    // The last tensor is a norm, without padding behind it: every byte is needed.
    let random_lengths = (0..200).map(|_| next(whole.len()));
    for len in (0..300).chain(random_lengths).chain([whole.len() - 1]) {
        let error = ModelFile::from_bytes(whole[..len].to_vec()).err();
        let message = error.unwrap_or_else(|| panic!("{len} of {} bytes", whole.len())).to_string();
        assert!(!message.is_empty());
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = Pieces::valid().bytes();
    let header = Pieces::valid().header().len();
    let mut accepted = 0;
    for seed in 0..20_000 {
        let mut next = numbers(seed);
        let mut bytes = whole.clone();
        for _ in 0..=next(3) {
            let at = next(header);
            bytes[at] = if next(2) == 0 { bytes[at] ^ (1 << next(8)) } else { next(256) as u8 };
        }
        accepted += usize::from(read_everything(bytes));
    }
    // Spellings of tokens and neutral keys may change; nearly all the rest is refused.
    assert!(accepted < 10_000, "{accepted} of 20000 spoiled files are accepted");
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn shapes_and_places_are_accepted_exactly_when_they_fit(
        mut tensors in prop::collection::vec(any_tensor(), 0..4),
        data in 0_usize..9000,
    ) {
        for (index, tensor) in tensors.iter_mut().enumerate() {
            tensor.name = vec![b'a' + index as u8];
        }
        let mut pieces = Pieces::valid();
        (pieces.entries, pieces.tensors, pieces.data) = (Vec::new(), tensors, data);
        let parsed = Gguf::parse(Cursor::new(pieces.bytes()));
        prop_assert_eq!(parsed.is_ok(), fits(&pieces.tensors, data as u64), "{:?}", parsed.err());
    }

    #[test]
    fn any_hyper_parameters_give_an_answer(
        values in prop::collection::vec(
            prop_oneof![0_u32..100, Just(1 << 20), any::<u32>()], 8),
        floats in prop::collection::vec(any::<f32>(), 2),
    ) {
        let keys = [
            "context_length", "embedding_length", "feed_forward_length", "block_count",
            "attention.head_count", "attention.head_count_kv", "attention.key_length",
            "rope.dimension_count",
        ];
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
    }
}

#[test]
#[cfg(target_os = "linux")]
fn all_refusals_together_take_little_memory() {
    // The whole of this test binary, whatever has run so far; its largest file has 0.1 MB.
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("peak memory");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    assert!(kib < 64 * 1024, "peak memory {kib} KiB");
}
