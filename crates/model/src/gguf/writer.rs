//! Writes GGUF files: the dummy models, and the files that tests feed to the reader.

use kernels::blocks::BlockKind;

use crate::gguf::{kind::tensor_kind_id, tensor::tensor_bytes};

/// A metadata value to write.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// `u32`.
    U32(u32),
    /// `f32`.
    F32(f32),
    /// A boolean.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// An array of texts.
    Texts(&'a [String]),
    /// An array of `i32`.
    I32s(&'a [i32]),
}

/// Builds a GGUF file of version 3 in memory.
#[derive(Debug, Default)]
pub struct GgufWriter {
    entries: Vec<u8>,
    entry_count: u64,
    list: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

/// The format's default alignment.
const ALIGNMENT: usize = 32;

impl GgufWriter {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata entry.
    pub fn entry(&mut self, key: &str, value: &Entry<'_>) -> &mut Self {
        put_text(&mut self.entries, key);
        match value {
            Entry::U32(value) => self.scalar(4, &value.to_le_bytes()),
            Entry::F32(value) => self.scalar(6, &value.to_le_bytes()),
            Entry::Bool(value) => self.scalar(7, &[u8::from(*value)]),
            Entry::Text(text) => {
                self.scalar(8, &[]);
                put_text(&mut self.entries, text);
            }
            Entry::Texts(texts) => {
                self.array(8, texts.len());
                texts.iter().for_each(|text| put_text(&mut self.entries, text));
            }
            Entry::I32s(numbers) => {
                self.array(5, numbers.len());
                self.entries.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
        }
        self.entry_count += 1;
        self
    }

    fn scalar(&mut self, kind: u32, bytes: &[u8]) {
        self.entries.extend(kind.to_le_bytes());
        self.entries.extend(bytes);
    }

    fn array(&mut self, kind: u32, len: usize) {
        self.entries.extend(9_u32.to_le_bytes());
        self.entries.extend(kind.to_le_bytes());
        self.entries.extend((len as u64).to_le_bytes());
    }

    /// Adds a tensor of `shape` (outermost dimension first) with its bytes as stored.
    ///
    /// # Panics
    /// If `bytes` is not as long as the shape needs.
    pub fn tensor(
        &mut self,
        name: &str,
        kind: BlockKind,
        shape: &[u64],
        bytes: &[u8],
    ) -> &mut Self {
        let needed = tensor_bytes(kind, shape).expect("the shape fits the kind");
        assert_eq!(bytes.len() as u64, needed, "bytes of tensor `{name}` {shape:?}");
        put_text(&mut self.list, name);
        self.list.extend((shape.len() as u32).to_le_bytes());
        self.list.extend(shape.iter().rev().flat_map(|n| n.to_le_bytes()));
        self.list.extend(tensor_kind_id(kind).to_le_bytes());
        self.list.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self.tensor_count += 1;
        self
    }

    /// The file.
    pub fn finish(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.entry_count.to_le_bytes());
        file.extend(self.entries);
        file.extend(self.list);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file.extend(self.data);
        file
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
