//! Fields of vLLM and llama-server beside OpenAI's own, in replies and in the prompts that they make.

use serde_json::{Map, Value, json};

use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn merged(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

/// A whole reply and the text of the same request's stream, which is equal to its own.
async fn answered(server: &Server, path: &str, body: &Value) -> (String, Value) {
    let reply = server.post(path, body).await;
    assert_eq!(reply.status, 200, "{body} gave {}", reply.body);
    let reply = reply.json();
    let choice = &reply["choices"][0];
    let text = choice["text"].as_str().or(choice["message"]["content"].as_str());
    let text = text.expect("a text").to_owned();
    let mut joined = String::new();
    let mut ids = Vec::new();
    let events = server.stream(path, body).await.events().await;
    for event in &events[..events.len() - 1] {
        let chunk = event.json();
        let choice = &chunk["choices"][0];
        let piece = choice["text"].as_str().or(choice["delta"]["content"].as_str());
        joined.push_str(piece.unwrap_or_default());
        ids.extend(choice["token_ids"].as_array().cloned().unwrap_or_default());
    }
    assert_eq!(joined, text, "the stream of {body}");
    assert_eq!(choice["token_ids"].as_array().cloned().unwrap_or_default(), ids, "ids of {body}");
    (text, reply)
}

async fn completion(server: &Server, prompt: &str, more: Value) -> String {
    let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": prompt.len()});
    answered(server, COMPLETIONS, &merged(body, &more)).await.0
}

/// The answer to a chat; the device repeats the prompt, so that it shows what that was.
async fn prompt_of(server: &Server, messages: Value, more: Value) -> String {
    let body = json!({"messages": messages, "temperature": 0, "max_tokens": 400});
    let reply = server.post(CHAT, &merged(body.clone(), &more)).await;
    assert_eq!(reply.status, 200, "{more} gave {}", reply.body);
    let reply = reply.json();
    let prompt_len = reply["usage"]["prompt_tokens"].as_u64().expect("a number") as usize;
    let text = reply["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();
    text[..prompt_len].to_owned()
}

/// Clients whose numbers are all floats write 2 as 2.0.
#[tokio::test]
async fn whole_numbers_may_be_written_as_floats_and_others_are_refused_by_name() {
    let server = Setup::new().start().await;
    let whole = json!({
        "max_tokens": 3, "min_tokens": 1, "top_k": 5, "seed": 7, "n": 2, "priority": 0, "logprobs": 1,
        "prompt_logprobs": 0, "truncate_prompt_tokens": 4,
    });
    let floats: Map<String, Value> = whole
        .as_object()
        .expect("an object")
        .iter()
        .map(|(name, number)| (name.clone(), json!(number.as_f64())))
        .collect();
    let mut replies = Vec::new();
    for fields in [whole.clone(), Value::Object(floats)] {
        let body = merged(json!({"prompt": "hello", "temperature": 0.5}), &fields);
        let reply = server.post(COMPLETIONS, &body).await;
        assert_eq!(reply.status, 200, "{body} gave {}", reply.body);
        replies.push(reply.json()["choices"].clone());
    }
    assert_eq!(replies[0], replies[1]);
    assert_eq!(replies[0].as_array().map(Vec::len), Some(2));
    for name in whole.as_object().expect("an object").keys() {
        refused(&server, COMPLETIONS, json!({ name: 1.5 }), name).await;
    }
}

async fn refused(server: &Server, path: &str, more: Value, param: &str) {
    let body = json!({
        "prompt": "a", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2,
    });
    let reply = server.post(path, &merged(body, &more)).await;
    assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!(param)), "{more}");
}

#[tokio::test]
async fn a_bias_moves_the_choice_to_and_from_tokens() {
    let server = Setup::new().start().await;
    assert_eq!(completion(&server, "ab", json!({"logit_bias": {"120": 49.5}})).await, "ab");
    assert_eq!(completion(&server, "ab", json!({"logit_bias": {"120": 50.5}})).await, "xx");
    let more = json!({"logit_bias": {"97": -100, "122": 1}});
    assert_eq!(completion(&server, "abab", more).await, "zbzb");
    // Behind biases come penalties.
    let more = json!({"logit_bias": {"120": 52}, "presence_penalty": 2});
    assert_eq!(completion(&server, "abc", more).await, "xbc");
    server.idle().await;
}

#[tokio::test]
async fn only_allowed_tokens_are_chosen() {
    let server = Setup::new().start().await;
    let more = json!({"allowed_token_ids": [98, 99]});
    assert_eq!(completion(&server, "abc", more).await, "bbc");
}

#[tokio::test]
async fn bad_words_are_banned_as_sequences_with_and_without_a_space() {
    let server = Setup::new().start().await;
    let answer = |prompt, words: Value| completion(&server, prompt, json!({"bad_words": words}));
    assert_eq!(answer("xaby", json!(["b"])).await, "xa\0y");
    assert_eq!(answer("xaby", json!(["ab"])).await, "xa\0y");
    assert_eq!(answer("xaby", json!(["ya", "bx"])).await, "xaby");
    // A space before the word makes no difference.
    assert_eq!(answer("x aby", json!([" ab"])).await, "x a\0y");
    assert_eq!(answer("x aby", json!(["xa"])).await, "x aby");
}

#[tokio::test]
async fn rules_for_tokens_are_bounded_and_touch_no_other_request() {
    let server = Setup::new().start().await;
    for path in [COMPLETIONS, CHAT] {
        for (more, param) in [
            (json!({"logit_bias": {"258": 1}}), "logit_bias"),
            (json!({"logit_bias": {"-1": 1}}), "logit_bias"),
            (json!({"logit_bias": {"a": 1}}), "logit_bias"),
            (json!({"logit_bias": {"7": 1, "07": 1}}), "logit_bias"),
            (json!({"logit_bias": {"7": 100.000_001}}), "logit_bias"),
            (json!({"allowed_token_ids": []}), "allowed_token_ids"),
            (json!({"allowed_token_ids": [258]}), "allowed_token_ids[0]"),
            (json!({"allowed_token_ids": [97], "bad_words": ["a"]}), "allowed_token_ids"),
            (json!({"allowed_token_ids": [256], "min_tokens": 1}), "allowed_token_ids"),
            (json!({"bad_words": [""]}), "bad_words[0]"),
        ] {
            refused(&server, path, more, param).await;
        }
    }
    let all: serde_json::Map<String, Value> =
        (0..258).map(|id: u32| (id.to_string(), json!(-100))).collect();
    let ruled = json!({"logit_bias": all, "bad_words": ["a", "b"]});
    let (ruled, plain) =
        tokio::join!(completion(&server, "abab", ruled), completion(&server, "abab", json!({})));
    assert_eq!((ruled.as_str(), plain.as_str()), ("\0\0\0\0", "abab"));
}

#[tokio::test]
async fn an_answer_goes_on_with_the_last_message() {
    let server = Setup::new().start().await;
    let chat = json!([{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]);
    let open = json!({"add_generation_prompt": false, "continue_final_message": true});
    assert_eq!(prompt_of(&server, chat.clone(), open).await, "abcd");
    let closed = json!({"add_generation_prompt": false});
    assert_eq!(prompt_of(&server, chat.clone(), closed).await, "abcd");
    assert_eq!(prompt_of(&server, chat, json!({"add_generation_prompt": true})).await, "abcd>");
    refused(&server, CHAT, json!({"continue_final_message": true}), "continue_final_message").await;
}

#[tokio::test]
async fn a_template_gets_scalars_under_names_of_their_own() {
    let mut setup = Setup::new();
    setup.template =
        Some("{% for m in messages %}{{ m.content }}{% endfor %}[{{ mode }}{{ on }}{{ n }}]");
    let server = setup.start().await;
    let chat = || json!([{"role": "user", "content": "a"}]);
    let kwargs = json!({"mode": "<|end|>", "on": false, "n": 1.5, "unused": null});
    let more = json!({"chat_template_kwargs": kwargs});
    assert_eq!(prompt_of(&server, chat(), more).await, "a[<|end|>False1.5]");
    let many: serde_json::Map<String, Value> =
        (0..17).map(|index| (format!("v{index}"), json!(1))).collect();
    for kwargs in [
        json!(many),
        json!({"messages": 1}),
        json!({"raise_exception": true}),
        json!({"range": 1}),
        json!({"": 1}),
        json!({"1a": 1}),
        json!({"a b": 1}),
        json!({"a".repeat(65): 1}),
        json!({"a": "x".repeat(257)}),
        json!({"a": [1]}),
        json!({"a": {}}),
    ] {
        let more = json!({"chat_template_kwargs": kwargs});
        refused(&server, CHAT, more, "chat_template_kwargs").await;
    }
    for kwargs in [json!({"a".repeat(64): "x".repeat(256)}), json!({"n": 1e300}), json!({})] {
        prompt_of(&server, chat(), json!({"chat_template_kwargs": kwargs})).await;
    }
}

#[tokio::test]
async fn the_last_tokens_of_a_prompt_are_kept() {
    let server = Setup::new().start().await;
    let kept = |count: i64| completion(&server, "abcd", json!({"truncate_prompt_tokens": count}));
    assert_eq!(kept(2).await, "cdcd");
    assert_eq!(kept(9).await, "abcd");
    assert_eq!(kept(-1).await, "abcd");
    let chat = json!([{"role": "user", "content": "abcd"}]);
    assert_eq!(prompt_of(&server, chat, json!({"truncate_prompt_tokens": 3})).await, "cd>");
    // What does not fit the context is cut to what does, beside the answer.
    for (more, prompt_tokens) in [(json!({"max_tokens": 5}), 995), (json!({}), 984)] {
        for prompt in [json!("a".repeat(3000)), json!(vec![97; 3000])] {
            let body = json!({"prompt": prompt, "temperature": 0, "truncate_prompt_tokens": -1});
            let reply = server.post(COMPLETIONS, &merged(body, &more)).await.json();
            assert_eq!(reply["usage"]["prompt_tokens"], prompt_tokens, "{reply}");
        }
    }
    for count in [0, -2, 1001] {
        let more = json!({"truncate_prompt_tokens": count});
        refused(&server, COMPLETIONS, more, "truncate_prompt_tokens").await;
    }
}

#[tokio::test]
async fn ids_of_prompt_and_answer_are_told_where_vllm_tells_them() {
    let server = Setup::new().start().await;
    let body = json!({
        "prompt": ["a$", "bc"], "temperature": 0, "max_tokens": 3, "return_token_ids": true,
    });
    let (_, reply) =
        answered(&server, COMPLETIONS, &merged(body.clone(), &json!({"prompt": "a$"}))).await;
    assert_eq!(reply["choices"][0]["token_ids"], json!([97, 256]));
    assert_eq!(reply["choices"][0]["prompt_token_ids"], json!([97, 36]));
    let reply = server.post(COMPLETIONS, &body).await.json();
    assert_eq!(reply["choices"][1]["token_ids"], json!([98, 99, 98]));
    assert_eq!(reply["choices"][1]["prompt_token_ids"], json!([98, 99]));
    let chat = json!({
        "messages": [{"role": "user", "content": "é"}], "temperature": 0, "max_tokens": 2, "n": 2,
        "return_token_ids": true,
    });
    let (_, reply) = answered(&server, CHAT, &merged(chat.clone(), &json!({"n": 1}))).await;
    assert_eq!(reply["prompt_token_ids"], json!([0xc3, 0xa9, b'>']));
    assert_eq!(reply["choices"][0]["token_ids"], json!([0xc3, 0xa9]));
    let events = server.stream(CHAT, &chat).await.events().await;
    let chunks: Vec<Value> = events[..events.len() - 1].iter().map(|event| event.json()).collect();
    let told = chunks.iter().filter(|chunk| chunk.get("prompt_token_ids").is_some()).count();
    assert_eq!(told, 2, "once for each choice");
    let plain = server.post(CHAT, &merged(chat, &json!({"return_token_ids": false}))).await;
    assert!(!plain.body.contains("token_ids"), "{}", plain.body);
}

#[tokio::test]
async fn what_is_cached_is_shared_with_the_same_salt_alone() {
    let server = Setup::new().start().await;
    let prompt = "salted ".repeat(12);
    let mut cached = Vec::new();
    for salt in [None, Some("a"), Some("b"), Some("a"), None] {
        let body = json!({"prompt": prompt, "max_tokens": 1, "cache_salt": salt});
        let reply = server.post(COMPLETIONS, &body).await.json();
        cached.push(reply["usage"]["prompt_tokens_details"]["cached_tokens"].clone());
    }
    assert_eq!(json!(cached), json!([0, 0, 0, 80, 80]));
    for salt in ["".to_owned(), "x".repeat(513)] {
        refused(&server, CHAT, json!({"cache_salt": salt}), "cache_salt").await;
    }
    completion(&server, "a", json!({"cache_salt": "x".repeat(512)})).await;
}

#[tokio::test]
async fn salts_separate_chats_of_other_forms_too() {
    let server = Setup::new().start().await;
    let content = "salted ".repeat(12);
    let messages = json!([{"role": "user", "content": content}]);
    let forms = [
        (
            "/v1/messages",
            "/cache_read_input_tokens",
            json!({"messages": messages, "max_tokens": 1}),
        ),
        (
            "/v1/responses",
            "/input_tokens_details/cached_tokens",
            json!({"input": content, "max_output_tokens": 1}),
        ),
    ];
    for (path, cached, body) in forms {
        let mut found = Vec::new();
        for salt in ["a", "b", "a"] {
            let salted = merged(body.clone(), &json!({"cache_salt": format!("{path} {salt}")}));
            let reply = server.post(path, &salted).await.json();
            found.push(reply["usage"].pointer(cached).cloned());
        }
        assert_eq!(json!(found), json!([0, 0, 80]), "{path}");
    }
}

#[tokio::test]
async fn what_ended_the_answer_and_control_tokens_are_shown_on_request() {
    let server = Setup::new().start().await;
    let shown = || json!({"include_stop_str_in_output": true});
    let stopped = merged(shown(), &json!({"stop": ["cd", "zz"]}));
    assert_eq!(completion(&server, "abcdef", stopped.clone()).await, "abcd");
    assert_eq!(completion(&server, "abcdef", json!({"stop": ["cd"]})).await, "ab");
    let token = merged(shown(), &json!({"stop_token_ids": [99]}));
    assert_eq!(completion(&server, "abcdef", token).await, "abc");
    assert_eq!(completion(&server, "abcdef", json!({"stop_token_ids": [99]})).await, "ab");
    // An end token is a control token, too.
    let spelt = json!({"skip_special_tokens": false});
    assert_eq!(completion(&server, "ab$def", spelt.clone()).await, "ab");
    assert_eq!(completion(&server, "ab$def", shown()).await, "ab");
    assert_eq!(completion(&server, "ab$def", merged(shown(), &spelt)).await, "ab<|end|>");
    let goes_on = merged(json!({"ignore_eos": true}), &spelt);
    assert_eq!(completion(&server, "ab$", goes_on).await, "ab<|end|>");
    let chat = json!([{"role": "user", "content": "abcdef"}]);
    let body = json!({"messages": chat, "temperature": 0, "max_tokens": 9});
    assert_eq!(answered(&server, CHAT, &merged(body, &stopped)).await.0, "abcd");
}

#[tokio::test]
async fn n_predict_is_another_name_of_max_tokens() {
    let server = Setup::new().start().await;
    for (path, more, expected) in [
        (COMPLETIONS, json!({"n_predict": 3}), 3),
        (COMPLETIONS, json!({"n_predict": -1}), 999),
        (COMPLETIONS, json!({"n_predict": 3, "max_tokens": 2}), 2),
        (CHAT, json!({"n_predict": 3}), 3),
        (CHAT, json!({"n_predict": -1}), 998),
        (CHAT, json!({"n_predict": 3, "max_completion_tokens": 2}), 2),
    ] {
        let body = json!({"prompt": "a", "messages": [{"role": "user", "content": "a"}]});
        let reply = server.post(path, &merged(body, &more)).await.json();
        assert_eq!(reply["usage"]["completion_tokens"], expected, "{more} at {path}");
    }
    for count in [0, -2] {
        let body = json!({"prompt": "a", "n_predict": count});
        let reply = server.post(COMPLETIONS, &body).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!("n_predict")));
    }
}

#[tokio::test]
async fn repeat_penalty_is_another_name_of_repetition_penalty() {
    let server = Setup::new().start().await;
    // What the prompt says is less likely than `z` with a penalty of 2, and more likely without.
    for (more, expected) in [
        (json!({}), "ab"),
        (json!({"repetition_penalty": 2}), "zb"),
        (json!({"repeat_penalty": 2}), "zb"),
        (json!({"repeat_penalty": 2, "repetition_penalty": 1}), "ab"),
    ] {
        let more = merged(json!({"logit_bias": {"122": 30}}), &more);
        assert_eq!(completion(&server, "ab", more.clone()).await, expected, "{more}");
    }
}
