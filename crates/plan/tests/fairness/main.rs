//! What a client that floods the server, or one with a long prompt, does to others, with the real
//! scheduler on the modelled device.

mod trial;

mod gaps;
mod waits;
