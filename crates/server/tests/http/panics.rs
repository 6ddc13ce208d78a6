//! Panics in the code of requests: the device leaves out what handlers count on, in the middle of others.

use http::Method;
use serde_json::{Value, json};

use crate::client::{request, send};
use crate::harness::Setup;

const COMPLETIONS: &str = "/v1/completions";
const PANICS: &str = "millrace:panics_total";
const TOLD: &str = "the server has failed at this request; its log says why";

/// Answers to prompts of which the second has a token without log-probabilities.
fn echo(prompts: &[&str], stream: bool) -> Value {
    json!({
        "prompt": prompts, "echo": true, "logprobs": 1, "temperature": 0, "max_tokens": 900,
        "stream": stream,
    })
}

#[tokio::test]
async fn a_request_whose_code_panics_fails_alone_wherever_it_is() {
    let (server, gate) = Setup::new().start_gated().await;
    gate.allow(1);
    let beside = json!({"prompt": "xyz", "temperature": 0, "max_tokens": 600});
    let mut beside = server.stream(COMPLETIONS, &beside).await;
    let chat = json!({
        "messages": [{"role": "user", "content": "a^"}], "prompt_logprobs": 1, "max_tokens": 2,
    });
    let cases = [
        // While a reply is put together, after the last token of one, before and after a stream has begun.
        (COMPLETIONS, echo(&["ab", "a^"], false), 500),
        ("/v1/chat/completions", chat, 500),
        (COMPLETIONS, echo(&["a^", "ab"], true), 500),
        (COMPLETIONS, echo(&["ab", "a^"], true), 200),
    ];
    for (count, (path, body, status)) in (1..).zip(cases) {
        let asked =
            tokio::spawn(send(server.address, request(Method::POST, path, &body.to_string())));
        server.step_until(&gate, |metrics| metrics.value(PANICS, "") == f64::from(count)).await;
        let mut reply = asked.await.unwrap().unwrap();
        assert_eq!(reply.response.status(), status, "{body}");
        let error = match status {
            500 => reply.reply().await.json(),
            _ => reply.events().await.pop().expect("an error event").json(),
        };
        assert_eq!(
            (&error["error"]["message"], &error["error"]["type"]),
            (&json!(TOLD), &json!("server_error"))
        );
        // What it had in the engine is gone.
        server
            .step_until(&gate, |metrics| metrics.value("vllm:num_requests_running", "") == 1.0)
            .await;
    }
    drop(gate);
    let events = beside.events().await;
    let texts =
        events[..events.len() - 1].iter().map(|event| event.json()["choices"][0]["text"].clone());
    let text: String = texts.map(|text| text.as_str().expect("a text").to_owned()).collect();
    assert_eq!(text, "xyz".repeat(200));
    let metrics = server.idle().await;
    assert_eq!((metrics.value(PANICS, ""), metrics.ended("error")), (4.0, 0.0));
    // Two of each reply that had not ended.
    assert_eq!((metrics.ended("abort"), metrics.ended("length")), (6.0, 2.0));
}
