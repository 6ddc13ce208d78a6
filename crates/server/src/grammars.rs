//! Grammars for requests: compiled beside the network's threads, kept for those that ask again.

use std::sync::{Arc, Mutex};

use grammar::{Cache, Compiler, Constraint, Grammar, Guided, Spec, SpecError, Vocabulary};
use text::Tokenizer;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::limits::{GRAMMAR_CACHE_BYTES, GRAMMAR_TIMEOUT, GRAMMARS_AT_ONCE};
use crate::openai::error::ApiError;

/// What the answers of a request must look like.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The field that asks for it.
    pub param: &'static str,
    /// What it asks for.
    pub spec: Spec,
}

impl Wanted {
    /// Checked for size and depth.
    pub fn new(param: &'static str, spec: Spec) -> Result<Self, ApiError> {
        match spec.check() {
            Ok(()) => Ok(Wanted { param, spec }),
            Err(error) => Err(refusal(param, &error)),
        }
    }
}

/// Compiles what requests want.
pub struct Grammars {
    compiler: Arc<Compiler>,
    cache: Arc<Mutex<Cache>>,
    turns: Arc<Semaphore>,
}

impl Grammars {
    /// For the vocabulary of `tokenizer`.
    pub fn new(tokenizer: &Arc<Tokenizer>) -> Self {
        Grammars {
            compiler: Arc::new(Compiler::new(vocabulary(tokenizer))),
            cache: Arc::new(Mutex::new(Cache::new(GRAMMAR_CACHE_BYTES))),
            turns: Arc::new(Semaphore::new(GRAMMARS_AT_ONCE)),
        }
    }

    /// Constrains each of `requests` to what is `wanted`.
    pub async fn constrain<S>(
        &self,
        wanted: Wanted,
        requests: &mut [engine::Request<Guided<S>>],
    ) -> Result<(), ApiError> {
        let grammar = self.compile(wanted).await?;
        for request in requests {
            request.params.constraint = Some(Constraint::new(&grammar));
        }
        Ok(())
    }

    async fn compile(&self, Wanted { param, spec }: Wanted) -> Result<Grammar, ApiError> {
        let key = spec.key();
        if let Some(grammar) = self.cache.lock().expect("the cache does not panic").get(&key) {
            return Ok(grammar);
        }
        let turn = timeout(GRAMMAR_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(turn) = turn else {
            let reason = "too many grammars are being compiled; try again later";
            return Err(ApiError::Unavailable { reason });
        };
        let (compiler, cache) = (Arc::clone(&self.compiler), Arc::clone(&self.cache));
        // The job owns its turn, so that a client that leaves does not free it early.
        let job = tokio::task::spawn_blocking(move || {
            let _turn = turn.expect("never closed");
            let grammar = compiler.compile(&spec)?;
            cache.lock().expect("the cache does not panic").put(key, grammar.clone());
            Ok(grammar)
        });
        match timeout(GRAMMAR_TIMEOUT, job).await {
            Ok(Ok(compiled)) => compiled.map_err(|error: SpecError| refusal(param, &error)),
            Ok(Err(error)) => {
                tracing::error!(%error, "compiling a grammar failed");
                Err(ApiError::Failed { message: "the grammar could not be compiled".to_owned() })
            }
            Err(_) => {
                let limit = GRAMMAR_TIMEOUT.as_secs();
                let message = format!("`{param}` is not compiled after {limit} s; simplify it");
                Err(ApiError::invalid(param, message))
            }
        }
    }
}

fn refusal(param: &'static str, error: &SpecError) -> ApiError {
    ApiError::invalid(param, format!("`{param}`: {error}"))
}

/// The tokenizer's vocabulary as grammars see it. Control tokens are no text.
fn vocabulary(tokenizer: &Tokenizer) -> Vocabulary {
    let ids = 0..u32::try_from(tokenizer.vocabulary_len()).expect("ids are 32 bits wide");
    let bytes = |id| match tokenizer.token_bytes(id) {
        Some(bytes) if !tokenizer.is_control(id) => bytes.to_vec(),
        _ => Vec::new(),
    };
    let tokens = ids.map(bytes).collect();
    let end_tokens = tokenizer.end_tokens().to_vec();
    Vocabulary { tokens, end_tokens }
}
