//! The tokens that grammars are followed in.

use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::error::SpecError;

/// Tokens that the library can number.
const TOKENS: usize = 1 << 23;
/// Bytes of the longest token that an answer under a grammar can use; what the library's tree holds.
const TOKEN_BYTES: usize = 1_000;
/// A byte that no text has, and that the library marks tokens without text with.
const MARK: u8 = 0xFF;

/// A model's tokens, by id.
pub struct Vocabulary {
    /// Bytes that each token stands for in text, possibly a part of a character; none for those
    /// that only steer (control tokens), which no grammar allows.
    pub tokens: Vec<Vec<u8>>,
    /// Tokens that end an answer.
    pub end_tokens: Vec<u32>,
}

impl Vocabulary {
    /// In the library's form.
    pub(crate) fn into_library(self) -> Result<TokEnv, SpecError> {
        let Vocabulary { mut tokens, end_tokens } = self;
        let Some(&end) = end_tokens.first() else { return Err(SpecError::NoEndToken) };
        if TOKENS < tokens.len() {
            return Err(SpecError::VocabularyTooLarge { tokens: tokens.len(), limit: TOKENS });
        }
        for &end in &end_tokens {
            // Ending is not text.
            tokens[end as usize].clear();
        }
        for bytes in &mut tokens {
            if TOKEN_BYTES < bytes.len() || bytes.contains(&MARK) {
                bytes.clear();
            }
        }
        let info = TokRxInfo::new(tokens.len() as u32, end);
        let trie = TokTrie::from(&info, &tokens).with_eos_tokens(&end_tokens);
        Ok(std::sync::Arc::new(Environment { trie }))
    }
}

struct Environment {
    trie: TokTrie,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(bytes)
    }

    /// So that the library never runs ahead of an answer where only one text may follow: that text may
    /// have no end (`start: B B`, `B: /b+/`) or a far one (`b{999999999}`), and no limit counts it. The
    /// model then chooses among the tokens that the text begins with.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
