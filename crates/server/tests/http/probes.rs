//! What probes, routers and dashboards read.

use http::Method;
use sampling::SamplingRequest;
use serde_json::json;

use crate::client::{request, send};
use crate::harness::Setup;
use crate::vocabulary::{END, TURN};

#[tokio::test]
async fn the_model_list_names_the_model() {
    let server = Setup::new().start().await;
    let list = server.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert!(1_700_000_000 < model["created"].as_u64().unwrap());
    for (field, value) in [
        ("id", json!("tiny")),
        ("object", json!("model")),
        ("owned_by", json!("millrace")),
        ("root", json!("script")),
        ("max_model_len", json!(1000)),
    ] {
        assert_eq!(model[field], value);
    }
}

#[tokio::test]
async fn a_model_is_found_by_its_name_and_no_other_is() {
    let server = Setup::new().start().await;
    let reply = server.get("/v1/models/tiny").await;
    assert_eq!(reply.json(), server.get("/v1/models").await.json()["data"][0]);
    for other in ["tin", "tiny/x", "org/tiny", "%74iny2"] {
        let reply = server.get(&format!("/v1/models/{other}")).await;
        assert_eq!((reply.status.as_u16(), reply.error("code")), (404, json!("model_not_found")));
    }
}

#[tokio::test]
async fn adapters_are_listed_with_the_model_as_their_parent_and_found_by_their_names() {
    let server = Setup::new().start().await;
    let list = server.get("/v1/models").await.json();
    let of = |place: usize, field: &str| list["data"][place][field].clone();
    assert_eq!(list["data"].as_array().map(Vec::len), Some(3));
    assert_eq!((of(0, "id"), of(0, "parent")), (json!("tiny"), json!(null)));
    assert_eq!((of(2, "id"), of(2, "parent")), (json!("poem"), json!("tiny")));
    assert_eq!((of(2, "root"), of(2, "max_model_len")), (json!("adapters/poem"), json!(1000)));
    assert_eq!(server.get("/v1/models/poem").await.json(), list["data"][2]);
    let info = server.get("/server_info").await.json();
    assert_eq!(info["adapters"][0], json!({"name": "sql", "root": "adapters/sql"}));
}

#[tokio::test]
async fn routers_find_the_model_and_the_settings_under_their_names() {
    let server = Setup::new().start().await;
    let expected = json!({
        "model_path": "script", "tokenizer_path": "script", "served_model_name": "tiny",
        "is_generation": true, "max_model_len": 1000,
    });
    for path in ["/model_info", "/get_model_info"] {
        assert_eq!(server.get(path).await.json(), expected);
    }
    let info = server.get("/server_info").await.json();
    assert_eq!(server.get("/get_server_info").await.json(), info);
}

#[tokio::test]
async fn every_probe_of_readiness_fails_in_a_drain_and_that_of_life_does_not() {
    let (server, gate) = Setup::new().start_gated().await;
    gate.allow(1);
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 9});
    let running = server.stream("/v1/completions", &body).await;
    let paths = ["/health", "/ready", "/ping", "/live"];
    for path in paths {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(server.post_raw("/ping", "").await.status, 200);
    server.trigger.drain();
    for path in paths {
        let status = server.get(path).await.status;
        assert_eq!(status, if path == "/live" { 200 } else { 503 }, "{path}");
    }
    drop((running, gate));
}

#[tokio::test]
async fn the_server_tells_its_version_and_settings() {
    let server = Setup::new().start().await;
    assert_eq!(server.get("/version").await.json(), json!({"version": "1.2.3"}));
    let info = server.get("/server_info").await.json();
    assert_eq!((&info["max_num_seqs"], &info["block_count"]), (&json!(8), &json!(1024)));
    assert_eq!(info["memory_utilization"], json!(null));
    assert_eq!(info["kv_cache_dtype"], json!("bf16"));
    let defaults = &info["sampling_defaults"];
    assert_eq!((&defaults["temperature"], &defaults["top_k"]), (&json!(1.0), &json!(0)));
}

#[tokio::test]
async fn what_a_request_leaves_out_is_as_the_model_has_it() {
    let mut setup = Setup::new();
    let (temperature, top_p) = (0.7, 0.8);
    setup.server.sampling =
        SamplingRequest { temperature, top_p, top_k: 20, ..SamplingRequest::default() };
    let server = setup.start().await;
    let info = server.get("/server_info").await.json();
    let told = json!({"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0});
    assert_eq!(info["sampling_defaults"], told);
    let reply = server.post("/v1/responses", &json!({"input": "a", "max_output_tokens": 1})).await;
    let reply = reply.json();
    assert_eq!((&reply["temperature"], &reply["top_p"]), (&json!(0.7), &json!(0.8)));
    let asked = json!({"input": "a", "max_output_tokens": 1, "temperature": 0.2});
    assert_eq!(server.post("/v1/responses", &asked).await.json()["temperature"], 0.2);
}

#[tokio::test]
async fn tokenize_counts_text_and_chats() {
    let server = Setup::new().start().await;
    let ask = async |body| server.post("/tokenize", &body).await.json();
    assert_eq!(
        ask(json!({"prompt": "a<|turn|>"})).await,
        json!({"count": 2, "max_model_len": 1000, "tokens": [97, TURN]})
    );
    let reply = ask(json!({"model": "tiny", "prompt": " a", "return_token_strs": true})).await;
    assert_eq!(reply["token_strs"], json!(["Ġ", "a"]));
    let messages = json!([{"role": "user", "content": "<|end|>"}]);
    assert_eq!(ask(json!({"messages": messages})).await["count"], 8);
    let reply = ask(json!({"messages": messages, "add_generation_prompt": false})).await;
    assert_eq!(reply["count"], 7);
    for (body, param) in [
        (json!({}), "prompt"),
        (json!({"prompt": "a", "messages": messages}), "messages"),
        (json!({"prompt": 5}), "prompt"),
        (json!({"messages": [{"role": "user", "content": 5}]}), "messages[0].content"),
    ] {
        let reply = server.post("/tokenize", &body).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!(param)));
    }
}

#[tokio::test]
async fn detokenize_is_the_way_back() {
    let server = Setup::new().start().await;
    let body = json!({"tokens": [195, 169, END, 97]});
    assert_eq!(server.post("/detokenize", &body).await.json(), json!({"prompt": "é<|end|>a"}));
    for (body, param) in [
        (json!({"tokens": [1, 258]}), json!("tokens[1]")),
        (json!({"tokens": [-1]}), json!("tokens[0]")),
        (json!({"tokens": "a"}), json!("tokens")),
        (json!({}), json!("tokens")),
    ] {
        let reply = server.post("/detokenize", &body).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, param));
    }
}

#[tokio::test]
async fn metrics_have_vllms_names_and_add_up() {
    let (server, gate) = Setup::new().start_gated().await;
    let ask = async |prompt: &str, max_tokens: u32, stop: &[&str]| {
        let body = json!({
            "prompt": prompt, "temperature": 0, "max_tokens": max_tokens, "stop": stop,
        });
        let request = request(Method::POST, "/v1/completions", &body.to_string());
        let address = server.address;
        let reply =
            tokio::spawn(async move { send(address, request).await.unwrap().reply().await });
        server.step_until(&gate, |_| reply.is_finished()).await;
    };
    ask("abcd", 10, &[]).await;
    ask("xy$", 10, &[]).await;
    ask("pqrs", 900, &["rs"]).await;
    ask("!", 10, &[]).await;
    let metrics = server.idle().await;
    let value = |name: &str| metrics.value(name, "");
    assert_eq!(value("millrace:requests_accepted_total"), 4.0);
    for (reason, count) in [("length", 1.0), ("stop", 2.0), ("error", 1.0), ("abort", 0.0)] {
        assert_eq!(metrics.ended(reason), count, "{reason}");
    }
    // The step that failed a request counts nothing for it.
    assert_eq!(value("vllm:prompt_tokens_total"), 4.0 + 3.0 + 4.0);
    assert!(10.0 + 3.0 + 4.0 <= value("vllm:generation_tokens_total"));
    assert_eq!(value("vllm:num_preemptions_total"), 0.0);
    assert!(value("vllm:prefix_cache_hits_total") <= value("vllm:prefix_cache_queries_total"));
    assert_eq!(value("vllm:time_to_first_token_seconds_count"), 3.0);
    for histogram in [
        "vllm:e2e_request_latency_seconds",
        "vllm:request_queue_time_seconds",
        "vllm:request_inference_time_seconds",
        "vllm:request_prefill_time_seconds",
        "vllm:request_decode_time_seconds",
        "vllm:request_prompt_tokens",
        "vllm:request_generation_tokens",
    ] {
        assert_eq!(value(&format!("{histogram}_count")), 3.0, "{histogram}");
        assert_eq!(metrics.value(&format!("{histogram}_bucket"), "le=\"+Inf\""), 3.0);
    }
    let tokens = value("vllm:generation_tokens_total");
    assert_eq!(value("vllm:inter_token_latency_seconds_count"), tokens - 3.0);
    assert_eq!(value("vllm:request_generation_tokens_sum"), tokens);
    assert_eq!(metrics.value("vllm:time_to_first_token_seconds_bucket", "le=\"2560.0\""), 3.0);
    assert!(metrics.0.contains("# TYPE vllm:num_requests_running gauge\n"));
    assert!(metrics.0.contains("# TYPE vllm:prompt_tokens counter\n"));
    assert!(metrics.0.contains("# HELP vllm:kv_cache_usage_perc "));
    assert!(!metrics.0.contains("NaN"));
    assert!(metrics.0.ends_with("# EOF\n"));
    let content_type = server.get("/metrics").await.headers["content-type"].clone();
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
}
