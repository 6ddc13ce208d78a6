//! The metadata of a GGUF file: keys with typed values.

use std::{collections::BTreeMap, fmt, io::Read};

use crate::{
    error::LoadError,
    gguf::{header::HeaderReader, kind::ValueKind},
};

/// Longest key. Source: the GGUF specification.
const KEY_BYTES_MAX: u64 = 65_535;

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any of the integer kinds; every one of them fits.
    Integer(ValueKind, i128),
    /// `F32` or `F64`.
    Float(ValueKind, f64),
    /// `Bool`.
    Bool(bool),
    /// `Text`.
    Text(String),
    /// An array of `Text`.
    Texts(Vec<String>),
    /// An array of any fixed-size kind, as stored.
    Numbers(ValueKind, Vec<u8>),
}

/// For messages: the value, long text shortened and arrays by kind and length.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Integer(_, value) => write!(f, "{value}"),
            Value::Float(_, value) => write!(f, "{value}"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Text(text) if text.chars().nth(80).is_some() => {
                write!(f, "`{}…`", text.chars().take(80).collect::<String>())
            }
            Value::Text(text) => write!(f, "`{text}`"),
            Value::Texts(_) | Value::Numbers(..) => f.write_str(&self.kind_name()),
        }
    }
}

impl Value {
    fn kind_name(&self) -> String {
        match self {
            Value::Integer(kind, _) | Value::Float(kind, _) => kind.name().to_string(),
            Value::Bool(_) => ValueKind::Bool.name().to_string(),
            Value::Text(_) => ValueKind::Text.name().to_string(),
            Value::Texts(texts) => format!("an array of {} texts", texts.len()),
            Value::Numbers(kind, bytes) => {
                format!("an array of {} x {}", bytes.len() as u64 / kind.min_bytes(), kind.name())
            }
        }
    }
}

/// All metadata of a file. Accessors give `Ok(None)` for a key that is absent and an error for a
/// value of another type.
#[derive(Debug, Default)]
pub struct Metadata {
    entries: BTreeMap<String, Value>,
    /// What a file that is no GGUF file calls keys, for messages.
    called: BTreeMap<String, String>,
}

impl Metadata {
    /// Reads `count` entries.
    pub(crate) fn read<R: Read>(
        reader: &mut HeaderReader<R>,
        count: u64,
    ) -> Result<Self, LoadError> {
        let mut entries = BTreeMap::new();
        for index in 0..count {
            reader.place = format!("metadata entry {} of {count}", index + 1);
            let (key, value) = read_entry(reader)?;
            if entries.contains_key(&key) {
                return Err(LoadError::DuplicateKey { key });
            }
            entries.insert(key, value);
        }
        Ok(Self { entries, called: BTreeMap::new() })
    }

    /// Says what a file of another format calls `key`, and its value if it has one.
    pub(crate) fn insert(&mut self, key: String, called: &str, value: Option<Value>) {
        self.called.insert(key.clone(), called.to_string());
        self.entries.extend(value.map(|value| (key, value)));
    }

    /// What the file calls `key`.
    pub(crate) fn called<'a>(&'a self, key: &'a str) -> &'a str {
        self.called.get(key).map_or(key, String::as_str)
    }

    /// All keys with their values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key` whatever its type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_kind(self.called(key), other, "text")),
        }
    }

    /// An integer of any of the integer types that fits 32 unsigned bits.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integer(_, value)) => {
                u32::try_from(*value).map(Some).map_err(|_| LoadError::BadValue {
                    key: self.called(key).to_string(),
                    value: value.to_string(),
                    limit: format!("0 to {}", u32::MAX),
                })
            }
            Some(other) => Err(wrong_kind(self.called(key), other, "an integer")),
        }
    }

    /// A floating-point number; a double is rounded to single.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(_, value)) => Ok(Some(*value as f32)),
            Some(other) => Err(wrong_kind(self.called(key), other, "f32")),
        }
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong_kind(self.called(key), other, "a boolean")),
        }
    }

    /// An array of 4-byte signed integers.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Numbers(ValueKind::I32, bytes)) => {
                let (numbers, _) = bytes.as_chunks::<4>();
                Ok(Some(numbers.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()))
            }
            Some(other) => Err(wrong_kind(self.called(key), other, "an array of i32")),
        }
    }

    /// An array of 4-byte floating-point numbers.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Numbers(ValueKind::F32, bytes)) => {
                let (numbers, _) = bytes.as_chunks::<4>();
                Ok(Some(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
            }
            Some(other) => Err(wrong_kind(self.called(key), other, "an array of f32")),
        }
    }

    /// An array of bytes, signed or not.
    pub fn bytes(&self, key: &str) -> Result<Option<&[u8]>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Numbers(ValueKind::U8 | ValueKind::I8, bytes)) => Ok(Some(bytes)),
            Some(other) => Err(wrong_kind(self.called(key), other, "an array of u8 or i8")),
        }
    }

    /// An array of texts, taken out of the metadata: afterwards the array is empty.
    pub fn take_texts(&mut self, key: &str) -> Result<Option<Vec<String>>, LoadError> {
        match self.entries.get_mut(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(std::mem::take(texts))),
            Some(other) => Err(wrong_kind(key, other, "an array of text")),
        }
    }
}

fn wrong_kind(key: &str, found: &Value, expected: &'static str) -> LoadError {
    LoadError::WrongKind { key: key.to_string(), found: found.kind_name(), expected }
}

fn read_entry<R: Read>(reader: &mut HeaderReader<R>) -> Result<(String, Value), LoadError> {
    let len = reader.u64()?;
    if KEY_BYTES_MAX < len {
        let place = format!("{}: bytes of the key", reader.place);
        return Err(LoadError::TooMany { place, found: len, limit: KEY_BYTES_MAX });
    }
    if len == 0 {
        return Err(LoadError::EmptyKey { place: reader.place.clone() });
    }
    let key = String::from_utf8(reader.bytes(len)?)
        .map_err(|_| LoadError::NotText { place: reader.place.clone() })?;
    reader.place = format!("metadata key `{key}`");
    let value = match read_kind(reader, &key)? {
        ValueKind::Array => read_array(reader, &key)?,
        kind => read_value(reader, &key, kind)?,
    };
    Ok((key, value))
}

fn read_kind<R: Read>(reader: &mut HeaderReader<R>, key: &str) -> Result<ValueKind, LoadError> {
    let id = reader.u32()?;
    ValueKind::from_id(id).ok_or_else(|| LoadError::UnknownValueKind { key: key.to_string(), id })
}

fn read_value<R: Read>(
    reader: &mut HeaderReader<R>,
    key: &str,
    kind: ValueKind,
) -> Result<Value, LoadError> {
    let integer = |value: i128| Value::Integer(kind, value);
    Ok(match kind {
        ValueKind::U8 => integer(u8::from_le_bytes(reader.array()?).into()),
        ValueKind::I8 => integer(i8::from_le_bytes(reader.array()?).into()),
        ValueKind::U16 => integer(u16::from_le_bytes(reader.array()?).into()),
        ValueKind::I16 => integer(i16::from_le_bytes(reader.array()?).into()),
        ValueKind::U32 => integer(u32::from_le_bytes(reader.array()?).into()),
        ValueKind::I32 => integer(i32::from_le_bytes(reader.array()?).into()),
        ValueKind::U64 => integer(u64::from_le_bytes(reader.array()?).into()),
        ValueKind::I64 => integer(i64::from_le_bytes(reader.array()?).into()),
        ValueKind::F32 => Value::Float(kind, f32::from_le_bytes(reader.array()?).into()),
        ValueKind::F64 => Value::Float(kind, f64::from_le_bytes(reader.array()?)),
        ValueKind::Text => Value::Text(reader.text()?),
        ValueKind::Bool => match reader.array::<1>()? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [found] => return Err(LoadError::NotBoolean { key: key.to_string(), found }),
        },
        ValueKind::Array => return Err(LoadError::NestedArray { key: key.to_string() }),
    })
}

fn read_array<R: Read>(reader: &mut HeaderReader<R>, key: &str) -> Result<Value, LoadError> {
    let kind = read_kind(reader, key)?;
    let count = reader.u64()?;
    reader.check_count(count, kind.min_bytes())?;
    match kind {
        ValueKind::Array => Err(LoadError::NestedArray { key: key.to_string() }),
        ValueKind::Text => {
            let mut texts = Vec::new();
            for _ in 0..count {
                texts.push(reader.text()?);
            }
            Ok(Value::Texts(texts))
        }
        // The product is at most the bytes left, by the check above.
        kind => Ok(Value::Numbers(kind, reader.bytes(count * kind.min_bytes())?)),
    }
}
