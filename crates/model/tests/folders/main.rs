//! Folders that are not as the fixtures are: other settings, other types of weights, and all that can
//! be wrong with one. `families.rs` tests the good ones.

mod spoilt;
mod hostile;
mod odd;
mod prompts;
mod settings;
mod weights;
