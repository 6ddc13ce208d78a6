//! The types that GGUF names by number: of metadata values and of tensor elements.

use kernels::blocks::BlockKind;

/// Type of a metadata value. Source: the GGUF specification, `gguf_metadata_value_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Unsigned, 1 byte.
    U8,
    /// Signed, 1 byte.
    I8,
    /// Unsigned, 2 bytes.
    U16,
    /// Signed, 2 bytes.
    I16,
    /// Unsigned, 4 bytes.
    U32,
    /// Signed, 4 bytes.
    I32,
    /// IEEE single.
    F32,
    /// One byte, 0 or 1.
    Bool,
    /// A length (8 bytes) and UTF-8 text.
    Text,
    /// A type (4 bytes), a count (8 bytes) and that many values.
    Array,
    /// Unsigned, 8 bytes.
    U64,
    /// Signed, 8 bytes.
    I64,
    /// IEEE double.
    F64,
}

impl ValueKind {
    /// All kinds; a kind's place is its number in the file.
    pub const ALL: [ValueKind; 13] = [
        ValueKind::U8,
        ValueKind::I8,
        ValueKind::U16,
        ValueKind::I16,
        ValueKind::U32,
        ValueKind::I32,
        ValueKind::F32,
        ValueKind::Bool,
        ValueKind::Text,
        ValueKind::Array,
        ValueKind::U64,
        ValueKind::I64,
        ValueKind::F64,
    ];

    /// The kind of number `id`, or `None` if the format has none.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The kind's number in the file.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Bytes that a value takes in the file; for text and arrays the least.
    pub fn min_bytes(self) -> u64 {
        match self {
            ValueKind::U8 | ValueKind::I8 | ValueKind::Bool => 1,
            ValueKind::U16 | ValueKind::I16 => 2,
            ValueKind::U32 | ValueKind::I32 | ValueKind::F32 => 4,
            ValueKind::U64 | ValueKind::I64 | ValueKind::F64 | ValueKind::Text => 8,
            ValueKind::Array => 12,
        }
    }

    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            ValueKind::U8 => "u8",
            ValueKind::I8 => "i8",
            ValueKind::U16 => "u16",
            ValueKind::I16 => "i16",
            ValueKind::U32 => "u32",
            ValueKind::I32 => "i32",
            ValueKind::F32 => "f32",
            ValueKind::Bool => "a boolean",
            ValueKind::Text => "text",
            ValueKind::Array => "an array",
            ValueKind::U64 => "u64",
            ValueKind::I64 => "i64",
            ValueKind::F64 => "f64",
        }
    }
}

/// The kind of ggml's type number `id`, or `None` if this engine does not compute with it.
pub(crate) fn tensor_kind(id: u32) -> Option<BlockKind> {
    BlockKind::ALL.into_iter().find(|&kind| tensor_kind_id(kind) == id)
}

/// The number by which a file names `kind` (`ggml_type`).
pub fn tensor_kind_id(kind: BlockKind) -> u32 {
    match kind {
        BlockKind::F32 => 0,
        BlockKind::F16 => 1,
        BlockKind::Q4_0 => 2,
        BlockKind::Q4_1 => 3,
        BlockKind::Q5_0 => 6,
        BlockKind::Q5_1 => 7,
        BlockKind::Q8_0 => 8,
        BlockKind::Q2_K => 10,
        BlockKind::Q3_K => 11,
        BlockKind::Q4_K => 12,
        BlockKind::Q5_K => 13,
        BlockKind::Q6_K => 14,
        BlockKind::Iq4Nl => 20,
        BlockKind::Iq4Xs => 23,
        BlockKind::Bf16 => 30,
        BlockKind::Mxfp4 => 39,
    }
}

/// ggml's name of `kind`, such as `Q4_1`.
pub fn tensor_kind_name(kind: BlockKind) -> &'static str {
    GGML_TYPES[tensor_kind_id(kind) as usize]
}

/// The name of ggml's type number `id`, so that a refusal can say `IQ3_S` and not `21`.
pub(crate) fn ggml_type_name(id: u32) -> String {
    let name = usize::try_from(id).ok().and_then(|id| GGML_TYPES.get(id));
    name.map_or_else(|| format!("number {id}"), |name| (*name).to_string())
}

/// Names by number. Source: ggml.h, `enum ggml_type`, with the types that were removed from it.
const GGML_TYPES: [&str; 40] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
];
