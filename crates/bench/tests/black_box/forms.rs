//! What requests look like, and levels that follow from those before.

use bench::{Api, BenchConfig, Distribution, Loads, RequestForm};
use http::{HeaderName, HeaderValue};
use serde_json::json;

use crate::mock_server::{Behaviour, Fault, MockServer};
use crate::{config, run, try_run};

#[tokio::test]
async fn a_chat_sends_the_prompt_as_a_message_with_extra_fields() {
    let server = MockServer::start(Behaviour::default()).await;
    let extra_body = [("priority".to_owned(), json!(3))].into_iter().collect();
    let form = RequestForm { api: Api::Chat, extra_body, headers: Vec::new() };
    let outcome = run(BenchConfig { form, ..config(server.url(), &[2], 1) }).await;
    assert!(outcome.is_success(), "{}", outcome.report);
    for body in server.completions() {
        assert_eq!((&body["priority"], &body["messages"][0]["role"]), (&json!(3), &json!("user")));
        assert!(body["prompt"].is_null() && body["messages"][0]["content"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn headers_go_with_every_request() {
    let behaviour = Behaviour { api_key: Some("sesame"), ..Behaviour::default() };
    let server = MockServer::start(behaviour).await;
    let header =
        (HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer sesame"));
    let form = RequestForm { headers: vec![header], ..RequestForm::default() };
    assert!(run(BenchConfig { form, ..config(server.url(), &[2], 1) }).await.is_success());
}

fn doubling(users_max: u32) -> Loads {
    let think_time_s = Distribution::fixed(0.0);
    Loads::Doubling { users_max, requests_per_user: 2, think_time_s }
}

#[tokio::test]
async fn levels_double_until_the_limit() {
    let server = MockServer::start(Behaviour::default()).await;
    let outcome = run(BenchConfig { loads: doubling(2), ..config(server.url(), &[], 2) }).await;
    let users: Vec<_> = outcome.summary.levels.iter().map(|level| level.plan.users()).collect();
    assert_eq!(users, [Some(1), Some(2)]);
    assert!(outcome.is_success() && outcome.summary.levels_asked.len() == 2);
}

#[tokio::test]
async fn levels_double_until_requests_fail() {
    let fault = |number| (number == 4).then_some(Fault::Refused);
    let server = MockServer::start(Behaviour { fault, ..Behaviour::default() }).await;
    let outcome = run(BenchConfig { loads: doubling(64), ..config(server.url(), &[], 2) }).await;
    assert_eq!(outcome.summary.levels.len(), 2);
    assert!(!outcome.is_success() && !outcome.summary.interrupted);
}

#[tokio::test]
async fn a_server_that_only_answers_chats_is_measured_when_told_so() {
    let behaviour = Behaviour { chats_alone: true, tokenize: false, ..Behaviour::default() };
    let server = MockServer::start(behaviour).await;
    let refused = try_run(config(server.url(), &[1], 1)).await.expect_err("it lists no models");
    assert!(refused.to_string().contains("names no model (HTTP 404"), "{refused}");
    let extra_body: serde_json::Map<_, _> =
        [("model".to_owned(), json!("far-away"))].into_iter().collect();
    let form = RequestForm { extra_body, ..RequestForm::default() };
    let named = BenchConfig { form: form.clone(), ..config(server.url(), &[1], 1) };
    let refused = try_run(named).await.expect_err("it knows no completions").to_string();
    assert!(refused.contains("HTTP 404") && refused.contains("--endpoint chat"), "{refused}");
    let form = RequestForm { api: Api::Chat, ..form };
    let outcome = run(BenchConfig { form, ..config(server.url(), &[1], 2) }).await;
    assert!(outcome.is_success(), "{}", outcome.report);
    assert_eq!(outcome.summary.setup.server.model, "far-away");
    assert_eq!(
        server.completions().last().map(|body| body["model"].clone()),
        Some("far-away".into())
    );
    assert!(outcome.report.contains("| Num Generated Tokens   | 6 "), "{}", outcome.report);
}

#[tokio::test]
async fn a_missing_key_is_named() {
    let behaviour = Behaviour { api_key: Some("sesame"), ..Behaviour::default() };
    let server = MockServer::start(behaviour).await;
    let refused = try_run(config(server.url(), &[1], 1)).await.expect_err("it needs a key");
    let text = refused.to_string();
    assert!(text.contains("HTTP 401") && text.contains("--api-key"), "{text}");
}
