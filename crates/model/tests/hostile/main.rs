//! Model files that lie: each is refused with a message that says where and why, without a panic
//! and without memory for what is not there.
//!
//! All in one test binary: the test of its peak memory looks at whatever ran before it.

mod pieces;

mod format;
mod parameters;
mod tokenizer;
mod split;
mod spoiled;
