//! Body and reply of `/v1/embeddings`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::EMBEDDING_INPUTS;
use crate::openai::integer::Integer;
use crate::openai::types::Prompts;

/// The body.
#[derive(Debug, Deserialize)]
pub struct EmbeddingBody {
    /// Name of the model; absent or empty: the one that is served.
    pub model: Option<String>,
    /// What to embed: a text, ids, or a list of either.
    pub input: Option<Prompts<EMBEDDING_INPUTS>>,
    /// How the vectors are written.
    pub encoding_format: Option<EncodingFormat>,
    /// Numbers of each vector; the model's width if absent.
    pub dimensions: Option<Integer>,
    /// Whether the model's begin and end tokens are added to texts; true unless said otherwise.
    pub add_special_tokens: Option<bool>,
    /// Whose request it is.
    pub user: Option<String>,
    /// A lower number goes first.
    pub priority: Option<Integer>,
    /// Chats: not served.
    pub messages: Option<Value>,
    /// Not served: what is too long is refused.
    pub truncate_prompt_tokens: Option<Value>,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// Lists of numbers.
    #[default]
    Float,
    /// The little-endian bytes of 32-bit floats, in Base64.
    Base64,
}

/// The reply.
#[derive(Debug, Serialize)]
pub struct Embeddings {
    /// Id of the reply.
    pub id: String,
    /// Always `list`.
    pub object: &'static str,
    /// Unix time in seconds.
    pub created: u64,
    /// Name of the model.
    pub model: String,
    /// One for each input, in order.
    pub data: Vec<Embedding>,
    /// What it cost.
    pub usage: EmbeddingUsage,
}

/// The vector of one input.
#[derive(Debug, Serialize)]
pub struct Embedding {
    index: usize,
    object: &'static str,
    embedding: Written,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Written {
    Float(Vec<f32>),
    Base64(String),
}

/// What the request cost, in tokens.
#[derive(Debug, Serialize)]
pub struct EmbeddingUsage {
    /// Tokens of all inputs.
    pub prompt_tokens: u32,
    /// The same: nothing is generated.
    pub total_tokens: u32,
}

impl Embedding {
    /// The vector of the `index`-th input.
    pub fn new(index: usize, vector: Vec<f32>, format: EncodingFormat) -> Self {
        let embedding = match format {
            EncodingFormat::Float => Written::Float(vector),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                Written::Base64(BASE64_STANDARD.encode(bytes))
            }
        };
        Embedding { index, object: "embedding", embedding }
    }
}
