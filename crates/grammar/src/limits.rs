//! Bounds on what may be asked for, and on the work that it may cause.
//!
//! Work is counted in the library's units and not in time, so that the same grammar is accepted or
//! refused on every machine.

use llguidance::api::ParserLimits;

/// Bytes of a JSON schema, written without spaces.
pub const SCHEMA_BYTES: usize = 64 << 10;
/// Lists and objects within each other in a JSON schema.
pub const SCHEMA_DEPTH: usize = 32;
/// Bytes of a regular expression.
pub const REGEX_BYTES: usize = 4 << 10;
/// Bytes of a grammar.
pub const LARK_BYTES: usize = 64 << 10;
/// Bytes of a frame as a grammar: its schemas, and the texts around them.
pub const FRAME_BYTES: usize = 256 << 10;
/// Brackets within each other in a regular expression or a grammar.
pub const BRACKETS_DEPTH: usize = 64;
/// Entries of a list of choices.
pub const CHOICES: usize = 1024;
/// Bytes of all choices together.
pub const CHOICES_BYTES: usize = 64 << 10;

/// The library's limits. Its defaults are for whole schema collections; what follows is enough for
/// a schema of the size above, and a step that needs more ends the request that asked for it.
pub(crate) fn parser() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 1_000,
        initial_lexer_fuel: 500_000,
        step_lexer_fuel: 100_000,
        step_max_items: 25_000,
        max_lexer_states: 10_000,
        max_grammar_size: 100_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}
