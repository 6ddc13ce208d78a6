//! The smallest dummy model's file taken apart, so that a case may spoil one piece of it.

use model::dummy::DummyShape;
use model::gguf::ValueKind;

/// A file in pieces.
pub struct Parts {
    pub magic: [u8; 4],
    pub version: u32,
    /// What the header says, where it lies.
    pub tensor_count: Option<u64>,
    pub entry_count: Option<u64>,
    /// Key with type and value as stored.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
    pub data: Vec<u8>,
}

/// An entry of the list of tensors.
#[derive(Clone)]
pub struct Tensor {
    pub name: Vec<u8>,
    /// What the entry says, where it lies.
    pub name_len: Option<u64>,
    pub dimension_count: Option<u32>,
    /// Innermost first.
    pub dimensions: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

/// The file as it was made.
pub fn original() -> Vec<u8> {
    DummyShape::tiny().gguf(0)
}

/// Reads a file that is known to be good.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().expect("four bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().expect("eight bytes"))
    }

    fn text(&mut self) -> Vec<u8> {
        let len = self.u64();
        self.bytes(len as usize).to_vec()
    }

    /// A value as stored, its type included.
    fn value(&mut self) -> Vec<u8> {
        let start = self.0;
        let kind = self.kind();
        self.skip(kind);
        start[..start.len() - self.0.len()].to_vec()
    }

    fn kind(&mut self) -> ValueKind {
        ValueKind::from_id(self.u32()).expect("a known type")
    }

    fn skip(&mut self, kind: ValueKind) {
        match kind {
            ValueKind::Text => drop(self.text()),
            ValueKind::Array => {
                let kind = self.kind();
                (0..self.u64()).for_each(|_| self.skip(kind));
            }
            kind => drop(self.bytes(kind.min_bytes() as usize)),
        }
    }

    fn tensor(&mut self) -> Tensor {
        let name = self.text();
        let dimensions = (0..self.u32()).map(|_| self.u64()).collect();
        let (kind, offset) = (self.u32(), self.u64());
        Tensor { name, name_len: None, dimension_count: None, dimensions, kind, offset }
    }
}

impl Parts {
    /// The good file.
    pub fn valid() -> Parts {
        let file = original();
        let mut reader = Reader(&file);
        let magic = reader.bytes(4).try_into().expect("four bytes");
        let version = reader.u32();
        let (tensor_count, entry_count) = (reader.u64(), reader.u64());
        let entries = (0..entry_count).map(|_| (reader.text(), reader.value())).collect();
        let tensors = (0..tensor_count).map(|_| reader.tensor()).collect();
        let header = file.len() - reader.0.len();
        let data = file[header.next_multiple_of(32)..].to_vec();
        Parts { magic, version, tensor_count: None, entry_count: None, entries, tensors, data }
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
        found.expect("a tensor of the good file")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.entry_count.unwrap_or(self.entries.len() as u64).to_le_bytes());
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
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&self.data);
        file
    }
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

pub fn words<T: AsRef<str>>(words: &[T]) -> Vec<u8> {
    let items: Vec<u8> = words.iter().flat_map(|word| text(word.as_ref().as_bytes())).collect();
    array(ValueKind::Text, words.len() as u64, &items)
}

/// Some value of each kind, of the least size.
pub fn any_value(kind: ValueKind) -> Vec<u8> {
    match kind {
        ValueKind::Array => array(ValueKind::U8, 0, &[]),
        _ => value(kind, &vec![0; kind.min_bytes() as usize]),
    }
}
