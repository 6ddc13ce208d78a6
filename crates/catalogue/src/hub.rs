//! Names on the Hugging Face hub → models in the cache that all clients of the hub share.
//!
//! A name such as `hf:ORG/NAME:FILE.gguf` is one file, `hf:ORG/NAME` a repository, of which the files are
//! taken that make the model. Of formats this knows what files are called, and which shards an index names.
//!
//! How a name becomes a path: `name` holds it to the hub's rules, `settings` reads what the environment
//! says of the hub, and `choice` picks files of a listing. `web` sends one request and follows where it
//! leads, `api` asks for the listing, for hashes and for bytes, again if need be, and `blob` gets the bytes
//! of one file, checks them and puts them in place, where `layout` says. `look` finds what the cache has and
//! what it leaves open. `pull` puts these together.

mod name;
mod settings;
mod layout;
mod choice;
mod web;
mod api;
mod blob;
mod look;
mod pull;

pub use look::{Cached, cached};
pub use name::Name;
pub use pull::{fetch, fetch_header, pull};
pub use settings::{Limits, Settings};

#[cfg(test)]
mod tests;
