//! The server as a black box: real connections, a scripted device, no weights.

mod vocabulary;
mod device;
mod client;
mod harness;
mod answers;
mod tools;
mod forced_calls;
mod messages;
mod responses;
mod log_probs;
mod refusals;
mod overload;
mod endings;
mod failures;
mod probes;
mod load;
mod accounts;
mod openapi;
mod embeddings;
mod dashboard;
mod page;
mod request_ids;
mod scheduling;
mod silence;
mod hostile;
mod structured;
