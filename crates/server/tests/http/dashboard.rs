//! `docs/grafana.json` asks for series that there are, and shows all of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::Setup;

const DASHBOARD: &str = include_str!("../../../../docs/grafana.json");
/// What the dashboard does not show: the same under older names, and names of adapters for what routes
/// requests.
const NOT_SHOWN: [&str; 6] = [
    "vllm:lora_requests_info",
    "vllm:gpu_cache_usage_perc",
    "vllm:gpu_prefix_cache_hit_rate",
    "vllm:gpu_prefix_cache_queries",
    "vllm:gpu_prefix_cache_hits",
    "vllm:time_per_output_token_seconds",
];

/// Every `expr` and `query` below `value`.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" || name == "query" => found.push(text.to_owned()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// The names of series in `expression`: words with a colon, or that begin as those of HTTP do.
fn series(expression: &str) -> impl Iterator<Item = &str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(move |c| !is_of_name(c));
    words.filter(|word| word.contains(':') || word.starts_with("http_"))
}

/// The labels that `expression` groups by.
fn groups(expression: &str) -> impl Iterator<Item = &str> {
    let lists = expression.split(" by (").skip(1);
    let lists = lists.map(|rest| rest.split_once(')').expect("a list of labels ends").0);
    lists.flat_map(|list| list.split(", "))
}

#[tokio::test]
async fn the_dashboard_shows_every_series_and_no_other() {
    let server = Setup::new().start().await;
    server.post("/v1/completions", &json!({"prompt": "ab", "temperature": 0})).await;
    let page = server.idle().await.0;
    let exported: BTreeSet<&str> =
        page.lines().filter_map(|line| line.split_once('{')).map(|(name, _)| name).collect();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("a dashboard is JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    let mut shown = BTreeSet::new();
    for expression in &found {
        for name in series(expression) {
            assert!(exported.contains(name), "{name} is not exported: {expression}");
            shown.insert(name);
        }
        for label in groups(expression) {
            assert!(page.contains(&format!("{label}=\"")), "no series has {label}: {expression}");
        }
        let count = |c: char| expression.chars().filter(|found| *found == c).count();
        assert_eq!(count('('), count(')'), "{expression}");
    }
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for family in families.filter_map(|line| line.split(' ').next()) {
        let is_shown = shown.iter().any(|name| name.starts_with(family));
        assert_ne!(is_shown, NOT_SHOWN.contains(&family), "{family}");
    }
}

#[tokio::test]
async fn older_names_say_the_same() {
    let server = Setup::new().start().await;
    for _ in 0..2 {
        let prompt = "ab".repeat(50);
        let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 5});
        server.post("/v1/completions", &body).await;
    }
    let metrics = server.idle().await;
    let value = |name: &str| metrics.value(name, "");
    let count = "inter_token_latency_seconds_count";
    assert_eq!(value("vllm:time_per_output_token_seconds_count"), value(&format!("vllm:{count}")));
    assert_eq!(value("vllm:gpu_cache_usage_perc"), value("vllm:kv_cache_usage_perc"));
    let (queries, hits) =
        (value("vllm:gpu_prefix_cache_queries_total"), value("vllm:gpu_prefix_cache_hits_total"));
    assert_eq!(queries, value("vllm:prefix_cache_queries_total"));
    assert_eq!(hits, value("vllm:prefix_cache_hits_total"));
    assert!(0.0 < hits, "the second prompt finds the first one's blocks");
    assert_eq!(value("vllm:gpu_prefix_cache_hit_rate"), hits / queries);
}
