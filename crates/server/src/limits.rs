//! Every bound of the server in one table.
//!
//! | what | bound | beyond it |
//! |---|---|---|
//! | request body | [`BODY_BYTES`] | 413 |
//! | bodies being read or checked at once, and vectors not yet sent at [`EMBEDDING_NUMBER_BYTES`] a number | [`BODIES_BYTES_IN_FLIGHT`] | 503 with `Retry-After` |
//! | bodies above [`INLINE_BODY_BYTES`] being parsed and tokenised, each of which may take [`LARGE_BODY_BYTES`] | [`LARGE_BODIES`] | they wait their turn |
//! | values in a body (numbers, texts, lists, objects) | [`BODY_VALUES`] | 400 |
//! | time to shake hands, behind TLS | [`HANDSHAKE_TIMEOUT`] | the connection is closed |
//! | time to read a request's head | [`HEAD_READ_TIMEOUT`] | the connection is closed |
//! | time to read a request's body | [`BODY_READ_TIMEOUT`] | 408 |
//! | size of a request's head, and its fields | [`HEAD_BYTES`], [`HEADERS`] | 431 |
//! | `X-Request-Id` | [`REQUEST_ID_BYTES`] visible ASCII characters | the request gets a new id |
//! | connections | `ServerConfig::connections_max` | new ones wait in the kernel's backlog |
//! | `prompt`: prompts in one request | [`PROMPTS`] | 400 |
//! | `messages` | [`MESSAGES`] | 400 |
//! | `input`: inputs of one request of embeddings | [`EMBEDDING_INPUTS`] | 400 |
//! | inputs of one request in the engine at once | [`EMBEDDINGS_AT_ONCE`] | the others wait for them |
//! | `tools`, and those in `allowed_tools` | [`TOOLS`] | 400 |
//! | a function: bytes of name, description and parameters; of all | [`TOOL_BYTES`], [`TOOLS_BYTES`] | 400 |
//! | levels of a function's parameters, and of arguments | [`JSON_DEPTH`] | 400 |
//! | `tool_calls` of a message | [`TOOL_CALLS`] | 400 |
//! | name of a function, and of a format; id of a call | [`NAME_BYTES`]; [`CALL_ID_BYTES`] | 400 |
//! | `n` | `ServerConfig::samples_max`, which is at most [`SAMPLES`] | 400 |
//! | prompts x `n` | [`SAMPLED_PROMPTS`] times the largest `n`, and what the engine holds | 400 |
//! | `stop`: strings, bytes of each | [`STOP_STRINGS`], [`STOP_STRING_BYTES`] | 400 |
//! | `stop_token_ids` | [`STOP_TOKENS`] | 400 |
//! | `user`, `cache_salt` | [`USER_BYTES`], [`CACHE_SALT_BYTES`] | 400 |
//! | `metadata` of a response, which is told back | [`METADATA_BYTES`] | 400 |
//! | `logit_bias`, `allowed_token_ids` | [`LOGIT_BIASES`], [`ALLOWED_TOKENS`] | 400 |
//! | `bad_words`: texts, bytes of each | [`BAD_WORDS`], [`BAD_WORD_BYTES`] | 400 |
//! | `chat_template_kwargs`: variables, bytes of a name, of a text | [`TEMPLATE_VARIABLES`], [`TEMPLATE_NAME_BYTES`], [`TEMPLATE_TEXT_BYTES`] | 400 |
//! | prompt that is to be cut by `truncate_prompt_tokens` | [`TEXT_TOKENS`] | 400, `context_length_exceeded` |
//! | tokens that are counted, or told by `/tokenize` and `/detokenize` | [`TEXT_TOKENS`] | 400 |
//! | replies of `/tokenize` and `/detokenize`, prompts that are told back (`echo`, `return_token_ids`, a response's instructions and tools) until the reply is sent | the room of bodies | 503; 400 if more than all of it |
//! | `top_logprobs` of a chat, `logprobs` of a completion | [`CHAT_LOG_PROBS`], [`COMPLETION_LOG_PROBS`] | 400 |
//! | `prompt_logprobs` | [`PROMPT_LOG_PROBS`] | 400 |
//! | log-probabilities of prompts, and of the most tokens that answers which are not streamed may have, at [`LOG_PROB_BYTES`] each; ids of those tokens | the room of bodies | 503; 400 if more than all of it |
//! | text of answers that are not streamed | [`ANSWER_TOKEN_BYTES`] a token, in the budget | – |
//! | schema, regular expression, choices, grammar: bytes, depth, work | [`grammar::limits`] | 400; work of a step: that request fails |
//! | time to compile a grammar | [`GRAMMAR_TIMEOUT`] to get one of [`GRAMMARS_AT_ONCE`] turns, and as much to compile | 503; 400 |
//! | compiled grammars | [`GRAMMAR_CACHE_BYTES`] | those not used for longest are dropped |
//! | prompt + `max_tokens` | the model's length, and the KV blocks there are | 400, `context_length_exceeded` |
//! | requests in the engine | its running cap + its queue cap; where tenants share, a share of them each | 429 with `Retry-After` |
//! | undelivered tokens of one reply | [`STREAM_BUFFER_BYTES`] per choice | the request is cancelled, the stream ends with an error |
//! | report channel | requests in the engine x the tokens each may have | cannot be full: the engine's own bounds hold it |
//! | an error: bytes of its message, of the field's path | [`ERROR_MESSAGE_BYTES`], [`ERROR_PARAM_BYTES`] | the middle is left out |
//! | time without a report while requests are open | `ServerConfig::stall_limit` | `/health` answers 503 |
//! | the same, longer | `ServerConfig::iteration_timeout` | open replies end with an error, and so does the server |
//! | time in which a client takes nothing of what was sent | [`WRITE_TIMEOUT`] | the connection is closed |
//! | time in which a client's machine answers nothing, while nothing is sent to it | [`WRITE_TIMEOUT`], asked after each [`PEER_PROBE`] | the connection is closed |
//! | buffer of one connection | [`CONNECTION_BUFFER_BYTES`] each way, behind TLS [`TLS_BUFFER_BYTES`] more | nothing more is read or written until there is room |
//! | time in which a stream says nothing | [`KEEP_ALIVE`] | a comment is sent |
//! | time to drain | `ServerConfig::shutdown_timeout` | what still runs ends with an error |

use std::time::Duration;

/// Largest request body.
pub const BODY_BYTES: usize = 4 << 20;
/// Values in one request body. A parser makes at most about 128 bytes of one, so that a body that is
/// being read takes at most 64 MiB of them, which [`LARGE_BODY_BYTES`] counts.
pub const BODY_VALUES: usize = 512 << 10;
/// Bytes of request bodies held at once, over all connections.
pub const BODIES_BYTES_IN_FLIGHT: usize = 256 << 20;
/// Keys that clients may show.
pub const KEYS: usize = 10_000;
/// Bytes of a key.
pub const KEY_BYTES: usize = 512;
/// Bytes of the name of a key's owner.
pub const KEY_OWNER_BYTES: usize = 64;
/// Largest weight of an owner.
pub const KEY_WEIGHT: u32 = 1000;
/// Bytes of `user`.
pub const USER_BYTES: usize = 512;
/// Bytes of the `metadata` of a response: 16 entries of OpenAI's greatest length.
pub const METADATA_BYTES: usize = 16 << 10;
/// Bytes of `cache_salt`.
pub const CACHE_SALT_BYTES: usize = 512;
/// Largest request head (request line and headers).
pub const HEAD_BYTES: usize = 32 << 10;
/// Header fields of a request. It is hyper's own bound: setting it, even to the same, would cost an allocation
/// per request.
pub const HEADERS: usize = 100;
/// Characters of a client's `X-Request-Id`.
pub const REQUEST_ID_BYTES: usize = 128;
/// Longest time from accepting a connection, or from the last reply, to a complete head.
pub const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time from accepting a connection to the end of its TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time from a complete head to a complete body.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time in which a client takes nothing of what was sent to it, or its machine answers no probe: where
/// `TCP_USER_TIMEOUT` is set it decides about both, and not the number of probes (tcp(7)).
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two probes of the machine of a client that waits for its reply.
pub const PEER_PROBE: Duration = Duration::from_secs(5);
/// Longest silence of a streamed reply, before its first token and after it; then a comment follows,
/// so that neither the client nor a proxy between takes the connection for dead. Shorter than the
/// 15 s that are usual at the client's end.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What hyper may hold for one connection, each way: as much as the longest head.
pub const CONNECTION_BUFFER_BYTES: usize = HEAD_BYTES;
/// What rustls may hold of what was encrypted for one connection and is not sent: a record.
pub const TLS_BUFFER_BYTES: usize = 16 << 10;
/// What a TLS connection takes beside hyper's buffers: what is to be sent, a record that comes in as it
/// is and deciphered, and the state of the session. During the handshake, when hyper has no buffers yet,
/// a message of the client's may take it all.
pub const TLS_BYTES: usize = 64 << 10;
/// Prompts in one completion request.
pub const PROMPTS: usize = 16;
/// Messages in one chat request.
pub const MESSAGES: usize = 4096;
/// Inputs in one request of embeddings, as many as OpenAI takes.
pub const EMBEDDING_INPUTS: usize = 2048;
/// Inputs of one request of embeddings that are in the engine at once.
pub const EMBEDDINGS_AT_ONCE: usize = 16;
/// Bytes that a number of a reply of embeddings takes until it is sent: itself, and its digits.
pub const EMBEDDING_NUMBER_BYTES: usize = 20;
/// Functions that an answer may call.
pub const TOOLS: usize = 128;
/// Bytes of one function: name, description and parameters (as JSON without spaces).
pub const TOOL_BYTES: usize = 64 << 10;
/// Bytes of all functions of a request.
pub const TOOLS_BYTES: usize = 1 << 20;
/// Objects and lists within each other in a function's parameters, and in the arguments of a call.
pub const JSON_DEPTH: usize = 48;
/// Calls in one message.
pub const TOOL_CALLS: usize = 128;
/// Bytes of a function's name.
pub const NAME_BYTES: usize = 128;
/// Bytes of the id of a call.
pub const CALL_ID_BYTES: usize = 256;
/// Most that the largest `n` may be (OpenAI's limit). Each choice takes a place in the engine, and what the
/// budget has for one.
pub const SAMPLES: u32 = 128;
/// Prompts of one request that may each have the largest `n`.
pub const SAMPLED_PROMPTS: usize = 4;
/// Stop strings of one request.
pub const STOP_STRINGS: usize = 16;
/// Bytes of one stop string.
pub const STOP_STRING_BYTES: usize = 256;
/// Entries of `stop_token_ids`.
pub const STOP_TOKENS: usize = 64;
/// Tokens in `logit_bias`.
pub const LOGIT_BIASES: usize = 1024;
/// Largest bias of a token, and the least if negative (OpenAI's limit).
pub const LOGIT_BIAS_MAX: f64 = 100.0;
/// Entries of `allowed_token_ids`.
pub const ALLOWED_TOKENS: usize = 16_384;
/// Entries of `bad_words`.
pub const BAD_WORDS: usize = 128;
/// Bytes of one of them.
pub const BAD_WORD_BYTES: usize = 256;
/// Variables in `chat_template_kwargs`.
pub const TEMPLATE_VARIABLES: usize = 16;
/// Bytes of the name of one.
pub const TEMPLATE_NAME_BYTES: usize = 64;
/// Bytes of a text that one is.
pub const TEMPLATE_TEXT_BYTES: usize = 256;
/// Most tokens of a text where the model's length is no bound: of a prompt of which `truncate_prompt_tokens`
/// keeps the last, and of what is only counted or told. A quarter of a second's work for the tokenizer.
pub const TEXT_TOKENS: usize = 256 << 10;
/// Bytes that a token takes whose id is told until the reply is sent: itself, and its digits.
pub const TOLD_ID_BYTES: usize = 16;
/// Bytes that its spelling takes beside three times its length: the text itself, and as JSON.
pub const TOLD_SPELLING_BYTES: usize = 64;
/// Largest `top_logprobs` of a chat (OpenAI's limit).
pub const CHAT_LOG_PROBS: u32 = sampling::LOG_PROBS_MAX;
/// Largest `logprobs` of a completion (OpenAI's limit).
pub const COMPLETION_LOG_PROBS: u32 = 5;
/// Largest `prompt_logprobs`.
pub const PROMPT_LOG_PROBS: u32 = sampling::LOG_PROBS_MAX;
/// Bytes that a log-probability of a prompt, or of an answer that is not streamed, takes until the reply is
/// sent: itself, of a prompt a copy for the choice, and about 80 bytes of JSON.
pub const LOG_PROB_BYTES: usize = 128;
/// Bytes that a token of an answer which is not streamed takes until the reply is made: about 8 of text, as it
/// grows, in one piece, and as JSON.
pub const ANSWER_TOKEN_BYTES: usize = 32;
/// Bytes of undelivered events of one choice.
pub const STREAM_BUFFER_BYTES: usize = 64 << 10;
/// Bodies up to this size are parsed and tokenised on the network thread, larger ones beside it:
/// at about 1 µs per token this much text costs a few milliseconds.
pub const INLINE_BODY_BYTES: usize = 16 << 10;
/// Bodies above [`INLINE_BODY_BYTES`] that are parsed and tokenised at once. One thread reads prompts a
/// hundred times as fast as they are computed.
pub const LARGE_BODIES: usize = 1;
/// What parsing and tokenising one takes at most beside its bytes. A body that is all text: 31 bytes for
/// each while characters are merged (`crates/text/tests/memory.rs`) and 6 for copies on the way to the
/// template and back, 148 MiB. A quarter of it is enough for [`BODY_VALUES`]: 64 MiB, and 111 for the rest.
pub const LARGE_BODY_BYTES: usize = 176 << 20;
/// Longest time for a request's grammar to get its turn, and then to be compiled.
pub const GRAMMAR_TIMEOUT: Duration = Duration::from_secs(10);
/// Grammars that are compiled at once.
pub const GRAMMARS_AT_ONCE: usize = 2;
/// Bytes of compiled grammars that are kept for requests that ask for the same.
pub const GRAMMAR_CACHE_BYTES: usize = 64 << 20;
/// `max_tokens` of `/v1/completions` where the request names none (OpenAI's default).
pub const COMPLETION_TOKENS_DEFAULT: u32 = 16;
/// About as many bytes of an error's message are told; it may quote what the client sent.
pub const ERROR_MESSAGE_BYTES: usize = 1000;
/// As many of the path of the field that it is about, whose names may be the client's.
pub const ERROR_PARAM_BYTES: usize = 200;
/// `Retry-After` of 429 and 503, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 1;
