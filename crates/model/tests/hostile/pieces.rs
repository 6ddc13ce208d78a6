//! A valid GGUF file in pieces, each of which a test may spoil, and what opening it then says.

use model::file::ModelFile;
use model::gguf::ValueKind;

/// A file in pieces, each of which a test may spoil.
#[derive(Debug, Clone)]
pub struct Pieces {
    pub magic: [u8; 4],
    pub version: u32,
    pub tensor_count: Option<u64>,
    pub entry_count: Option<u64>,
    /// Key with type and value as stored.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
    pub data: usize,
}

#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: Vec<u8>,
    pub name_len: Option<u64>,
    pub dimension_count: Option<u32>,
    /// In the file's order: innermost first.
    pub dimensions: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

pub fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

pub fn value(kind: ValueKind, bytes: &[u8]) -> Vec<u8> {
    [&kind.id().to_le_bytes(), bytes].concat()
}

pub fn number(n: u32) -> Vec<u8> {
    value(ValueKind::U32, &n.to_le_bytes())
}

pub fn float(x: f32) -> Vec<u8> {
    value(ValueKind::F32, &x.to_le_bytes())
}

pub fn word(word: &str) -> Vec<u8> {
    value(ValueKind::Text, &text(word.as_bytes()))
}

pub fn array(kind: ValueKind, count: u64, items: &[u8]) -> Vec<u8> {
    let head = [&kind.id().to_le_bytes()[..], &count.to_le_bytes()].concat();
    value(ValueKind::Array, &[&head[..], items].concat())
}

pub fn words(words: &[&str]) -> Vec<u8> {
    let items: Vec<u8> = words.iter().flat_map(|word| text(word.as_bytes())).collect();
    array(ValueKind::Text, words.len() as u64, &items)
}

/// Some value of each kind, of the least size.
pub fn any_value(kind: ValueKind) -> Vec<u8> {
    match kind {
        ValueKind::Array => array(ValueKind::U8, 0, &[]),
        _ => value(kind, &vec![0; kind.min_bytes() as usize]),
    }
}

impl Pieces {
    /// A valid model of one layer and four tokens, all weights zero.
    pub fn valid() -> Self {
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
    pub fn add(&mut self, name: &str, dimensions: Vec<u64>) {
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

    pub fn set(&mut self, key: &str, value: Vec<u8>) {
        match self.entries.iter_mut().find(|entry| entry.0 == key.as_bytes()) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key.into(), value)),
        }
    }

    pub fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.0 != key.as_bytes());
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name.as_bytes());
        found.expect("a tensor of the valid file")
    }

    pub fn header(&self) -> Vec<u8> {
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

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.header();
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file.resize(file.len() + self.data, 0);
        file
    }
}

/// What opening the spoiled file says.
pub fn refusal(spoil: impl FnOnce(&mut Pieces)) -> String {
    let mut pieces = Pieces::valid();
    spoil(&mut pieces);
    match ModelFile::from_bytes(pieces.bytes()) {
        Ok(_) => panic!("the file is accepted"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
pub fn refused(case: &str, message: &str, spoil: impl FnOnce(&mut Pieces)) {
    assert_eq!(refusal(spoil), message, "{case}");
}

#[track_caller]
pub fn accepted(case: &str, change: impl FnOnce(&mut Pieces)) -> ModelFile {
    let mut pieces = Pieces::valid();
    change(&mut pieces);
    ModelFile::from_bytes(pieces.bytes()).unwrap_or_else(|error| panic!("{case}: {error}"))
}
