//! What comes back: texts, streams, usage, choices.

use serde_json::{Value, json};

use crate::client::SseEvent;
use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// What a stream amounts to, by choice: text and finish reason. Checks the form on the way.
fn assemble(path: &str, events: &[SseEvent], choices: usize) -> Vec<(String, String)> {
    let (done, chunks) = events.split_last().expect("a stream is not empty");
    assert_eq!(done.data, "[DONE]");
    let mut texts = vec![String::new(); choices];
    let mut finishes = vec![None; choices];
    let mut started = vec![false; choices];
    let id = chunks[0].json()["id"].clone();
    for chunk in chunks {
        assert_eq!(chunk.name, None);
        let chunk = chunk.json();
        assert_eq!(chunk["id"], id);
        assert_eq!(chunk["model"], "tiny");
        for choice in chunk["choices"].as_array().expect("a list") {
            let index = choice["index"].as_u64().expect("a number") as usize;
            assert_eq!(finishes[index], None, "nothing follows the finish reason");
            let text = if path == CHAT {
                let role = &choice["delta"]["role"];
                let expected = if started[index] { json!(null) } else { json!("assistant") };
                assert_eq!(*role, expected, "the role comes once, in the first chunk");
                &choice["delta"]["content"]
            } else {
                &choice["text"]
            };
            started[index] = true;
            texts[index].push_str(text.as_str().expect("text"));
            finishes[index] = choice["finish_reason"].as_str().map(str::to_owned);
        }
    }
    let finishes = finishes.into_iter().map(|f| f.expect("each choice has a finish reason"));
    texts.into_iter().zip(finishes).collect()
}

/// Texts and finish reasons of a whole reply.
fn texts(path: &str, reply: &Value) -> Vec<(String, String)> {
    let choices = reply["choices"].as_array().expect("a list");
    choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            assert_eq!(choice["index"], index);
            let text = if path == CHAT { &choice["message"]["content"] } else { &choice["text"] };
            let finish = choice["finish_reason"].as_str().expect("a finish reason");
            (text.as_str().expect("text").to_owned(), finish.to_owned())
        })
        .collect()
}

/// Asks for `body` as a whole and as a stream, checks that they agree and gives the whole reply.
async fn both(server: &Server, path: &str, body: &Value) -> Value {
    let reply = server.post(path, body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let whole = reply.json();
    let expected = texts(path, &whole);
    let mut body = body.clone();
    body["stream_options"] = json!({"include_usage": true});
    let events = server.stream(path, &body).await.events().await;
    assert_eq!(assemble(path, &events, expected.len()), expected);
    let last = events[events.len() - 2].json();
    assert_eq!(last["choices"], json!([]));
    for field in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(last["usage"][field], whole["usage"][field], "{field}");
    }
    whole
}

async fn check(path: &str, body: Value, text: &str, finish: &str, completion_tokens: u32) {
    let server = Setup::new().start().await;
    let reply = both(&server, path, &body).await;
    assert_eq!(texts(path, &reply), [(text.to_owned(), finish.to_owned())]);
    assert_eq!(reply["usage"]["completion_tokens"], completion_tokens);
    server.idle().await;
}

#[tokio::test]
async fn a_completion_has_sixteen_tokens_unless_said_otherwise() {
    check(
        COMPLETIONS,
        json!({"prompt": "abc", "temperature": 0}),
        "abcabcabcabcabca",
        "length",
        16,
    )
    .await;
}

#[tokio::test]
async fn an_end_token_ends_the_answer_unseen_and_counted() {
    let body = json!({"prompt": "abc$", "temperature": 0, "max_tokens": 9});
    check(COMPLETIONS, body, "abc", "stop", 4).await;
}

#[tokio::test]
async fn ignore_eos_goes_on_to_the_full_length() {
    let body = json!({"prompt": "ab$", "temperature": 0, "max_tokens": 7, "ignore_eos": true});
    check(COMPLETIONS, body, "ababa", "length", 7).await;
}

#[tokio::test]
async fn a_stop_token_of_the_client_ends_the_answer_unseen() {
    let body = json!({"prompt": "abc", "temperature": 0, "stop_token_ids": [99]});
    check(COMPLETIONS, body, "ab", "stop", 3).await;
}

#[tokio::test]
async fn a_stop_token_before_min_tokens_is_text() {
    let body = json!({"prompt": "abc", "temperature": 0, "stop_token_ids": [99], "min_tokens": 4});
    check(COMPLETIONS, body, "abcab", "stop", 6).await;
}

#[tokio::test]
async fn a_stop_string_across_tokens_is_cut_and_later_tokens_do_not_count() {
    let body =
        json!({"prompt": "abcdef", "temperature": 0, "max_tokens": 500, "stop": ["zz", "cd"]});
    check(COMPLETIONS, body, "ab", "stop", 4).await;
}

#[tokio::test]
async fn a_stop_string_before_min_tokens_is_text() {
    let body =
        json!({"prompt": "abc", "temperature": 0, "max_tokens": 9, "stop": "c", "min_tokens": 3});
    check(COMPLETIONS, body, "abcab", "stop", 6).await;
}

#[tokio::test]
async fn text_held_back_for_a_stop_string_is_told_at_the_end() {
    let body = json!({"prompt": "abcdef", "temperature": 0, "max_tokens": 4, "stop": "cdz"});
    check(COMPLETIONS, body, "abcd", "length", 4).await;
}

#[tokio::test]
async fn a_stop_string_in_the_last_token_is_found() {
    let body = json!({"prompt": "abcdef", "temperature": 0, "max_tokens": 4, "stop": "cd"});
    check(COMPLETIONS, body, "ab", "stop", 4).await;
}

#[tokio::test]
async fn characters_of_several_tokens_arrive_whole() {
    let body = json!({"prompt": "é€😀", "temperature": 0, "max_tokens": 20});
    check(COMPLETIONS, body, "é€😀é€😀é", "length", 20).await;
}

#[tokio::test]
async fn half_a_character_at_the_end_is_a_replacement_character() {
    let body = json!({"prompt": "a€", "temperature": 0, "max_tokens": 3});
    check(COMPLETIONS, body, "a\u{fffd}", "length", 3).await;
}

#[tokio::test]
async fn a_chat_goes_on_to_the_end_of_the_context() {
    let server = Setup::new().start().await;
    let body = json!({"messages": [{"role": "user", "content": "hello"}], "temperature": 0});
    let reply = both(&server, CHAT, &body).await;
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["choices"][0]["message"]["role"], "assistant");
    let usage = &reply["usage"];
    assert_eq!(
        *usage,
        json!({
            "prompt_tokens": 6, "completion_tokens": 994, "total_tokens": 1000,
            "prompt_tokens_details": {"cached_tokens": 0},
        })
    );
}

#[tokio::test]
async fn max_completion_tokens_wins_over_max_tokens_in_a_chat() {
    let messages = json!([{"role": "user", "content": [
        {"type": "text", "text": "a"}, {"type": "text", "text": "b"},
    ]}]);
    let body = json!({
        "messages": messages, "temperature": 0, "max_tokens": 2, "max_completion_tokens": 5,
    });
    check(CHAT, body, "a\nb>a", "length", 5).await;
}

#[tokio::test]
async fn a_chat_message_never_yields_a_control_token() {
    let body = json!({
        "messages": [{"role": "user", "content": "<|turn|>"}], "temperature": 0, "max_tokens": 8,
    });
    check(CHAT, body, "<|turn|>", "length", 8).await;
}

#[tokio::test]
async fn a_prompt_may_be_ids() {
    let body = json!({"prompt": [104, 105], "temperature": 0, "max_tokens": 4, "model": "tiny"});
    check(COMPLETIONS, body, "hihi", "length", 4).await;
}

#[tokio::test]
async fn prompts_and_samples_come_in_order_and_prompts_count_once() {
    let server = Setup::new().start().await;
    for prompts in [json!(["ab", "xyz"]), json!([[97, 98], [120, 121, 122]])] {
        let body = json!({"prompt": prompts, "temperature": 0, "max_tokens": 4, "n": 2});
        let reply = both(&server, COMPLETIONS, &body).await;
        let expected = ["abab", "abab", "xyzx", "xyzx"];
        let texts = texts(COMPLETIONS, &reply);
        assert_eq!(texts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(reply["usage"]["prompt_tokens"], 5);
        assert_eq!(reply["usage"]["completion_tokens"], 16);
    }
}

#[tokio::test]
async fn a_seed_repeats_the_text_and_samples_differ() {
    let server = Setup::new().start().await;
    let ask = async |n: u32, seed: Option<i64>| {
        let body = json!({"prompt": "p", "n": n, "seed": seed, "max_tokens": 20});
        texts(COMPLETIONS, &server.post(COMPLETIONS, &body).await.json())
    };
    let four = ask(4, Some(-7)).await;
    assert_eq!(four, ask(4, Some(-7)).await);
    assert_eq!(four[..1], ask(1, Some(-7)).await);
    let distinct: std::collections::BTreeSet<_> = four.iter().collect();
    assert_eq!(distinct.len(), 4);
    assert_ne!(ask(1, None).await, ask(1, None).await);
}

#[tokio::test]
async fn the_last_chunk_has_timings_and_the_others_have_none() {
    let server = Setup::new().start().await;
    for options in [json!(null), json!({"include_usage": true})] {
        let body = json!({
            "prompt": "abc", "max_tokens": 3, "temperature": 0, "stream_options": options,
        });
        let events = server.stream(COMPLETIONS, &body).await.events().await;
        let (last, others) = events[..events.len() - 1].split_last().expect("chunks");
        let timings = last.json()["timings"].clone();
        for field in ["queue_ms", "prefill_ms", "decode_ms"] {
            assert!(timings[field].as_f64().expect("a number") >= 0.0);
        }
        assert_eq!(timings["cached_prompt_tokens"], 0);
        for chunk in others {
            let chunk = chunk.json();
            assert_eq!(chunk.get("timings"), None);
            let usage = chunk.get("usage");
            assert_eq!(usage, (!options.is_null()).then_some(&Value::Null));
        }
    }
}

#[tokio::test]
async fn continuous_usage_comes_with_every_token() {
    let server = Setup::new().start().await;
    let body = json!({
        "prompt": "€", "max_tokens": 4, "temperature": 0,
        "stream_options": {"continuous_usage_stats": true},
    });
    let events = server.stream(COMPLETIONS, &body).await.events().await;
    let counts: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| event.json()["usage"]["completion_tokens"].clone())
        .collect();
    assert_eq!(counts, [1, 2, 3, 4]);
}

#[tokio::test]
async fn the_first_chunk_comes_with_the_first_token() {
    let (server, gate) = Setup::new().start_gated().await;
    gate.allow(1);
    let body = json!({
        "messages": [{"role": "user", "content": "€"}], "max_tokens": 3, "temperature": 0,
    });
    let mut stream = server.stream(CHAT, &body).await;
    // The first token is a third of a character: it is told all the same, so that it can be timed.
    let delta = stream.event().await.expect("a chunk").json()["choices"][0]["delta"].clone();
    assert_eq!(delta, json!({"role": "assistant", "content": ""}));
    gate.allow(2);
    let rest = stream.events().await;
    assert_eq!(rest.len(), 2);
    let last = rest[0].json()["choices"][0].clone();
    assert_eq!(
        (&last["delta"]["content"], &last["finish_reason"]),
        (&json!("€"), &json!("length"))
    );
}

#[tokio::test]
async fn a_cached_prompt_is_told() {
    let server = Setup::new().start().await;
    let body = json!({"prompt": "x".repeat(40), "max_tokens": 1, "temperature": 0});
    let first = server.post(COMPLETIONS, &body).await.json();
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let second = server.post(COMPLETIONS, &body).await.json();
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"], 32);
    assert_eq!(second["timings"]["cached_prompt_tokens"], 32);
}

#[tokio::test]
async fn what_is_unknown_or_asks_for_nothing_is_ignored() {
    let server = Setup::new().start().await;
    let body = json!({
        "prompt": "ab", "temperature": 0, "max_tokens": 2, "user": "u", "store": true,
        "whatever": {"a": [1]}, "seed": null, "suffix": null, "tools": [], "logit_bias": {},
        "best_of": 1, "logprobs": null, "echo": false, "response_format": {"type": "text"},
        "add_special_tokens": true, "top_k": -1, "model": "", "n": null,
    });
    let reply = server.post(COMPLETIONS, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(texts(COMPLETIONS, &reply.json())[0].0, "ab");
}

#[tokio::test]
async fn a_large_body_gives_the_same_answer_as_a_small_one() {
    let server = Setup::new().start().await;
    let body = json!({
        "prompt": "abc", "temperature": 0, "max_tokens": 3, "metadata": "u".repeat(100_000),
    });
    let reply = server.post(COMPLETIONS, &body).await.json();
    assert_eq!(texts(COMPLETIONS, &reply)[0].0, "abc");
}

/// A small generator: the next number of a sequence that `seed` decides, below `bound`.
fn next(seed: &mut u64, bound: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % bound
}

#[tokio::test]
async fn any_tokens_give_the_same_text_streamed_and_whole() {
    let server = Setup::new().start().await;
    for case in 0..100 {
        let mut seed = case;
        // Bytes of whole characters, of halves and of nonsense; the end token among them.
        let pool = [97, 98, 99, 32, 195, 169, 226, 130, 172, 240, 159, 152, 128, 255, 256, 257];
        let length = 1 + next(&mut seed, 12);
        let prompt: Vec<u32> =
            (0..length).map(|_| pool[next(&mut seed, pool.len() as u64) as usize]).collect();
        let stops = ["ab", "é", "bc a", "\u{fffd}\u{fffd}", "a"];
        let stop = &stops[next(&mut seed, 5) as usize..];
        let body = json!({
            "prompt": prompt, "temperature": 0, "max_tokens": 1 + next(&mut seed, 40),
            "ignore_eos": next(&mut seed, 2) == 0, "n": 1 + next(&mut seed, 2),
            "stop": if next(&mut seed, 3) == 0 { &[] } else { stop },
        });
        println!("case {case}: {body}");
        both(&server, COMPLETIONS, &body).await;
    }
    server.idle().await;
}
