//! What replies tell of prompts: the text and its log-probabilities. The scripted device gives the token
//! behind position 0 of a prompt -1, the next one -2 and so on, and byte 255 a half more.

use serde_json::{Value, json};

use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn completion(prompt: Value, more: Value) -> Value {
    let mut body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 2});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

/// The first choice of a whole reply, and of the joined stream, which is equal.
async fn choice(server: &Server, body: &Value) -> Value {
    let reply = server.post(COMPLETIONS, body).await;
    assert_eq!(reply.status, 200, "{body} gave {}", reply.body);
    let whole = reply.json()["choices"][0].clone();
    let (mut text, mut lists) = (String::new(), json!({}));
    let events = server.stream(COMPLETIONS, body).await.events().await;
    for event in &events[..events.len() - 1] {
        let choice = &event.json()["choices"][0];
        text.push_str(choice["text"].as_str().expect("a text"));
        for (name, list) in choice["logprobs"].as_object().into_iter().flatten() {
            let mut joined = lists[name].as_array().cloned().unwrap_or_default();
            joined.extend(list.as_array().expect("a list").clone());
            lists[name] = joined.into();
        }
        if !choice["finish_reason"].is_null() {
            assert_eq!(choice["finish_reason"], whole["finish_reason"]);
        }
    }
    assert_eq!(whole["text"], text, "the text of {body}");
    if whole["logprobs"].is_object() {
        assert_eq!(whole["logprobs"], lists, "the log-probabilities of {body}");
    }
    whole
}

#[tokio::test]
async fn an_answer_may_begin_with_its_prompt() {
    let server = Setup::new().start().await;
    let echo = || json!({"echo": true});
    let text = async |prompt: Value, more: Value| {
        let mut body = completion(prompt, echo());
        body.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        choice(&server, &body).await["text"].clone()
    };
    assert_eq!(text(json!("aé"), json!({})).await, "aéa\u{fffd}");
    assert_eq!(text(json!([97, 98]), json!({})).await, "abab");
    assert_eq!(text(json!("a<|turn|>b"), json!({})).await, "a<|turn|>ba");
    // Stop strings are looked for in the answer alone.
    assert_eq!(text(json!("abc"), json!({"stop": "b", "max_tokens": 3})).await, "abca");
    assert_eq!(text(json!("abc"), json!({"truncate_prompt_tokens": 2})).await, "bcbc");
    let body = completion(json!(["ab", "cd"]), json!({"echo": true, "n": 2}));
    let reply = server.post(COMPLETIONS, &body).await.json();
    let texts: Vec<_> = (0..4).map(|index| reply["choices"][index]["text"].clone()).collect();
    assert_eq!(json!(texts), json!(["abab", "abab", "cdcd", "cdcd"]));
    server.idle().await;
}

/// What evaluations ask: how likely are the tokens of a text?
#[tokio::test]
async fn an_echo_has_the_log_probabilities_of_the_prompt() {
    let server = Setup::new().start().await;
    let more = json!({"echo": true, "logprobs": 1, "max_tokens": 1, "seed": 1234});
    let body = completion(json!([97, 98, 0xc3, 0xa9]), more);
    let found = choice(&server, &body).await;
    assert_eq!(found["text"], "abéa");
    let tokens = ["a", "b", "bytes:\\xc3", "bytes:\\xa9", "a"];
    let other = |logprob: f32, token: &str, own: f32| json!({"bytes:\\xff": logprob, token: own});
    assert_eq!(
        found["logprobs"],
        json!({
            "tokens": tokens,
            "token_logprobs": [null, -1.0, -2.0, -3.0, -1.0],
            "top_logprobs": [
                null,
                other(-0.5, tokens[1], -1.0),
                other(-1.5, tokens[2], -2.0),
                other(-2.5, tokens[3], -3.0),
                other(-0.5, tokens[4], -1.0),
            ],
            "text_offset": [0, 1, 2, 2, 3],
        })
    );
    // It is computed anew, whatever is cached.
    let long = completion(json!("x".repeat(100)), json!({"echo": true, "logprobs": 0}));
    for _ in 0..2 {
        let reply = server.post(COMPLETIONS, &long).await.json();
        assert_eq!(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
        let logprobs = &reply["choices"][0]["logprobs"]["token_logprobs"];
        assert_eq!(logprobs.as_array().map(Vec::len), Some(102));
    }
}

#[tokio::test]
async fn an_echo_may_be_all_that_is_wanted() {
    let server = Setup::new().start().await;
    for prompt in ["ab", "$b"] {
        let more = json!({"echo": true, "max_tokens": 0, "logprobs": 5, "return_token_ids": true});
        let body = completion(json!(prompt), more);
        let found = choice(&server, &body).await;
        assert_eq!((&found["text"], &found["finish_reason"]), (&json!(prompt), &json!("length")));
        assert_eq!(found["logprobs"]["token_logprobs"], json!([null, -1.0]));
        assert_eq!(found["token_ids"], json!([]));
        let usage = server.post(COMPLETIONS, &body).await.json()["usage"].clone();
        assert_eq!((&usage["completion_tokens"], &usage["prompt_tokens"]), (&json!(0), &json!(2)));
    }
    let plain = completion(json!("ab"), json!({"echo": true, "max_tokens": 0}));
    assert_eq!(choice(&server, &plain).await["logprobs"], json!(null));
    for (path, more) in [
        (COMPLETIONS, json!({"max_tokens": 0})),
        (COMPLETIONS, json!({"max_tokens": 0, "echo": false})),
        (COMPLETIONS, json!({"max_tokens": -1, "echo": true})),
        (CHAT, json!({"max_tokens": 0})),
    ] {
        let mut body = completion(json!("a"), more);
        body["messages"] = json!([{"role": "user", "content": "a"}]);
        let reply = server.post(path, &body).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!("max_tokens")));
    }
    server.idle().await;
}

#[tokio::test]
async fn prompt_log_probabilities_have_the_form_of_vllm() {
    let server = Setup::new().start().await;
    let entry = |logprob: f32, rank: u32, token: &str| json!({"logprob": logprob, "rank": rank, "decoded_token": token});
    let body = completion(json!(["abc", "x"]), json!({"prompt_logprobs": 3}));
    let reply = server.post(COMPLETIONS, &body).await.json();
    let position = |own: f32, id: &str, token: &str| {
        json!({
            id: entry(own, 2, token), "255": entry(own + 0.5, 1, "\u{fffd}"), "0": entry(own - 1.0, 3, "\0"),
        })
    };
    assert_eq!(
        reply["choices"][0]["prompt_logprobs"],
        json!([null, position(-1.0, "98", "b"), position(-2.0, "99", "c")])
    );
    assert_eq!(reply["choices"][1]["prompt_logprobs"], json!([null]));
    assert_eq!(reply["choices"][0]["text"], "ab");
    let chat = json!({
        "messages": [{"role": "user", "content": "a"}], "temperature": 0, "max_tokens": 1, "n": 2,
        "prompt_logprobs": 0,
    });
    let reply = server.post(CHAT, &chat).await.json();
    assert_eq!(reply["prompt_logprobs"], json!([null, {"62": entry(-1.0, 2, ">")}]));
    assert_eq!(reply["choices"][0]["logprobs"], json!(null));
    // Beside an echo each has its own number.
    let more = json!({"prompt_logprobs": 1, "echo": true, "logprobs": 0});
    let reply = server.post(COMPLETIONS, &completion(json!("ab"), more)).await.json();
    let choice = &reply["choices"][0];
    assert_eq!(choice["logprobs"]["top_logprobs"][1], json!({"b": -1.0}));
    assert_eq!(choice["prompt_logprobs"][1].as_object().map(serde_json::Map::len), Some(2));
}

#[tokio::test]
async fn what_is_told_of_prompts_is_bounded() {
    let mut setup = Setup::new();
    setup.engine.max_model_len = 8000;
    setup.engine.block_count = 8192;
    let (server, gate) = setup.start_gated().await;
    let check = async |path: &str, more: Value, param: &str| {
        let mut body = completion(json!("a"), more);
        body["messages"] = json!([{"role": "user", "content": "a"}]);
        let reply = server.post(path, &body).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!(param)), "{body}");
    };
    for path in [COMPLETIONS, CHAT] {
        for count in [-1, 21, 1_i64 << 40] {
            check(path, json!({"prompt_logprobs": count}), "prompt_logprobs").await;
        }
        let streamed = json!({"prompt_logprobs": 0, "stream": true});
        check(path, streamed, "prompt_logprobs").await;
    }
    check(CHAT, json!({"echo": true}), "echo").await;
    // 16 prompts of 7,000 tokens with 21 log-probabilities each are more than there is room for.
    let of = |length: usize| json!(vec!["a".repeat(length); 16]);
    check(COMPLETIONS, json!({"prompt": of(7000), "prompt_logprobs": 20}), "prompt_logprobs").await;
    // Two of 3,200 are together.
    let body = completion(of(3200), json!({"prompt_logprobs": 20}));
    {
        let (mut first, mut second) =
            (Box::pin(server.post(COMPLETIONS, &body)), Box::pin(server.post(COMPLETIONS, &body)));
        let refused = tokio::select! {
            reply = &mut first => reply,
            reply = &mut second => reply,
        };
        assert_eq!(refused.status, 503, "{}", refused.body);
    }
    drop(gate);
    server.idle().await;
    let body = completion(json!("a"), json!({"prompt_logprobs": 20}));
    assert_eq!(server.post(COMPLETIONS, &body).await.status, 200);
}
