//! From a spec to a grammar.

use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, OnceLock};

use llguidance::earley::SlicedBiasComputer;
use llguidance::{ParserFactory, panic_utils};
use toktrie::InferenceCapabilities;

use crate::error::{SpecError, first_line};
use crate::frame::Frame;
use crate::limits;
use crate::matcher::Grammar;
use crate::spec::Spec;
use crate::token_set::TokenSet;
use crate::vocabulary::Vocabulary;

/// Bytes of the stack that a grammar is compiled on: the library recurses over it.
const STACK_BYTES: usize = 64 << 20;
/// Bytes of a grammar beside its lexer's tables, for each byte of its source: rules, symbols, names.
const BYTES_PER_SOURCE_BYTE: usize = 64;
/// Bytes that every grammar takes.
const BYTES_AT_LEAST: usize = 16 << 10;

/// Compiles grammars for one vocabulary. What the vocabulary needs is made at the first call, so that
/// a server which is never asked for a grammar does not pay for it.
pub struct Compiler {
    vocabulary: Mutex<Option<Vocabulary>>,
    factory: OnceLock<Result<ParserFactory, SpecError>>,
}

impl Compiler {
    /// A compiler for `vocabulary`.
    pub fn new(vocabulary: Vocabulary) -> Self {
        Compiler { vocabulary: Mutex::new(Some(vocabulary)), factory: OnceLock::new() }
    }

    /// Compiles `spec`, on a thread of its own whose stack is large enough for any that passes
    /// [`Spec::check`]. May take as long as the limits allow, some tens of milliseconds.
    pub fn compile(&self, spec: &Spec) -> Result<Grammar, SpecError> {
        spec.check()?;
        std::thread::scope(|scope| {
            let compile = || {
                let compile = AssertUnwindSafe(|| Ok(self.compile_here(spec)));
                panic_utils::catch_unwind(compile)
                    .unwrap_or_else(|panic| Err(SpecError::Refused(first_line(&panic))))
            };
            let thread = std::thread::Builder::new()
                .name("grammar".to_owned())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, compile);
            match thread {
                Ok(thread) => thread.join().expect("panics are caught within"),
                Err(error) => Err(SpecError::Refused(format!("no thread to read it: {error}"))),
            }
        })
    }

    fn compile_here(&self, spec: &Spec) -> Result<Grammar, SpecError> {
        let factory = self.factory.get_or_init(|| self.factory()).as_ref().map_err(Clone::clone)?;
        let refused = |error: anyhow::Error| SpecError::Refused(first_line(&error));
        if let Spec::Frame(frame) = spec {
            // A brace too many would end a grammar's place in the frame, and what follows would be the frame's.
            frame.each_part(&mut |part| match part {
                Frame::Lark(text) => {
                    let alone = Spec::Lark(text.clone()).to_library();
                    factory.create_parser(alone).map(drop).map_err(refused)
                }
                _ => Ok(()),
            })?;
        }
        let mut parser = factory.create_parser(spec.to_library()).map_err(refused)?;
        parser.start_without_prompt();
        let first = TokenSet::new(parser.compute_mask().map_err(refused)?);
        let lexer_bytes = parser.parser.lexer_stats().num_bytes;
        let bytes =
            BYTES_AT_LEAST + lexer_bytes + BYTES_PER_SOURCE_BYTE * spec.key().len() + first.bytes();
        Ok(Grammar::new(llguidance::Matcher::new(Ok(parser)), first, bytes))
    }

    fn factory(&self) -> Result<ParserFactory, SpecError> {
        let vocabulary = self.vocabulary.lock().expect("taking it does not panic").take();
        let vocabulary = vocabulary.expect("the factory is made once");
        let environment = vocabulary.into_library()?;
        let capabilities = InferenceCapabilities::default();
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices)
            .map_err(|error| SpecError::Refused(first_line(&error)))?;
        factory.quiet();
        *factory.limits_mut() = limits::parser();
        Ok(factory)
    }
}
