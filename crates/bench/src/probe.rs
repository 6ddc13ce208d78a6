//! Who the server is, as far as it says so.

use serde::{Deserialize, Serialize};

use crate::answer::excerpt;
use crate::client::{Client, Connection, RawAnswer};
use crate::error::BenchError;
use crate::gauges;

/// What a server tells about itself at `/server_info`. Everything may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// The server's version.
    pub version: Option<String>,
    /// What it runs on.
    pub device: Option<String>,
    /// Share of memory that it may use, 0..=1.
    pub memory_utilization: Option<f64>,
    /// Bytes of its KV cache.
    pub kv_cache_memory_bytes: Option<u64>,
    /// Its cap on sequences that run at once.
    pub max_num_seqs: Option<u32>,
    /// Its limit of prompt and output together, in tokens.
    pub max_model_len: Option<u32>,
    /// Most positions it computes in a step.
    pub max_num_batched_tokens: Option<u32>,
    /// Positions in a block of its KV cache.
    pub block_size: Option<u32>,
    /// Blocks of its KV cache.
    pub block_count: Option<u32>,
    /// Whether it keeps blocks for later requests with the same beginning.
    pub prefix_caching: Option<bool>,
    /// Its own log line about the size of the KV cache.
    pub concurrency_line: Option<String>,
}

/// What is known about the server before the first request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// Its address.
    pub url: String,
    /// The name that its model answers to.
    pub model: String,
    /// Who it says the model belongs to; most servers give their own name.
    pub owned_by: Option<String>,
    /// What it tells at `/server_info`, if that exists.
    pub info: Option<ServerInfo>,
    /// Whether `/metrics` has gauges of running and waiting requests.
    pub has_gauges: bool,
}

impl ServerFacts {
    /// The lines of the report's first block. What is unknown is left out.
    pub(crate) fn basics(&self) -> Vec<String> {
        let info = self.info.clone().unwrap_or_default();
        let name = self.owned_by.as_deref().unwrap_or("server");
        let device = info.device.unwrap_or_else(|| format!("{name} at {}", self.url));
        let memory = match (info.memory_utilization, info.kv_cache_memory_bytes) {
            (Some(share), _) => Some(format!("gpu_memory_utilization = {share}")),
            (None, Some(bytes)) => Some(format!("kv_cache_memory_bytes = {bytes}")),
            (None, None) => None,
        };
        let cap = info.max_num_seqs.map(|cap| format!("max_num_seqs = {cap}"));
        let lines = [Some(device), memory, info.concurrency_line, cap];
        // Each is one line, whatever the server sent.
        lines.into_iter().flatten().map(|line| line.replace(['\n', '\r'], " ")).collect()
    }
}

/// Asks the server who it is. Needs a model name, which may be `named` by whoever asks; everything
/// else may be unknown.
pub(crate) async fn probe(
    client: &Client,
    connection: &mut Connection,
    named: Option<&str>,
) -> Result<ServerFacts, BenchError> {
    let url = client.endpoint().url();
    let (model, owned_by) = model(client, connection, &url, named).await?;
    let info = connection.ask(&client.get("/server_info")).await;
    let metrics = connection.ask(&client.get(gauges::PATH)).await;
    Ok(ServerFacts {
        url,
        model,
        owned_by,
        info: info.and_then(|body| serde_json::from_slice(&body).ok()),
        has_gauges: metrics.is_some_and(|body| gauges::read(&body).is_some()),
    })
}

async fn model(
    client: &Client,
    connection: &mut Connection,
    url: &str,
    named: Option<&str>,
) -> Result<(String, Option<String>), BenchError> {
    let mut answer = RawAnswer::default();
    connection.exchange(&client.get("/v1/models"), &mut answer).await;
    let hint = hint(answer.status);
    let no_model = |reason: String| BenchError::NoModel { url: url.to_owned(), reason, hint };
    match (answer.status, answer.broken) {
        (Some(200), None) => {}
        // Not every server that answers chats lists its models.
        (Some(status), _) if ![401, 403].contains(&status) && named.is_some() => {
            return Ok((named.unwrap_or_default().to_owned(), None));
        }
        (Some(status), _) => {
            return Err(no_model(format!("HTTP {status}: {}", excerpt(&answer.bytes))));
        }
        (None, reason) => {
            let reason = reason.unwrap_or_else(|| "no answer came".to_owned());
            return Err(BenchError::Unreachable { url: url.to_owned(), reason });
        }
    }
    let models: Result<Models, _> = serde_json::from_slice(&answer.bytes);
    let models = models.map_err(|_| no_model(excerpt(&answer.bytes)))?;
    let is_it = |model: &Model| named.is_none_or(|name| model.id == name);
    match (models.data.into_iter().find(is_it), named) {
        (None, Some(name)) => return Ok((name.to_owned(), None)),
        (found, _) => found,
    }
    .map(|model| (model.id, model.owned_by))
    .ok_or_else(|| no_model("its list is empty".into()))
}

/// What may help against a refusal, as the end of a sentence; empty if nothing is known.
pub(crate) fn hint(status: Option<u16>) -> &'static str {
    match status {
        Some(401 | 403) => "; give the server's key with --api-key",
        _ => "",
    }
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    owned_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(info: Option<&str>) -> ServerFacts {
        ServerFacts {
            url: "http://127.0.0.1:1".to_owned(),
            model: "m".to_owned(),
            owned_by: Some("vllm".to_owned()),
            info: info.map(|text| serde_json::from_str(text).expect("a good example")),
            has_gauges: false,
        }
    }

    #[test]
    fn the_basics_are_device_memory_concurrency_and_cap() {
        let info = r#"{"version":"1","model":"m","device":"AMD EPYC, 2 cores, 24.0 GiB",
            "memory_utilization":0.5,"kv_cache_memory_bytes":1024,"max_num_seqs":50,
            "concurrency_line":"CPU KV cache size: 15,953 tokens","threads":2}"#;
        let expected = [
            "AMD EPYC, 2 cores, 24.0 GiB",
            "gpu_memory_utilization = 0.5",
            "CPU KV cache size: 15,953 tokens",
            "max_num_seqs = 50",
        ];
        assert_eq!(facts(Some(info)).basics(), expected);
    }

    #[test]
    fn a_budget_in_bytes_is_printed_as_one() {
        let info = r#"{"device":"d","memory_utilization":null,"kv_cache_memory_bytes":1024}"#;
        assert_eq!(facts(Some(info)).basics(), ["d", "kv_cache_memory_bytes = 1024"]);
    }

    #[test]
    fn sizes_that_a_plan_needs_are_kept() {
        let info = r#"{"max_num_batched_tokens":256,"block_size":32,"block_count":9,
            "prefix_caching":false,"threads":2}"#;
        let kept = serde_json::to_value(facts(Some(info))).expect("plain data");
        for (name, value) in [
            ("max_num_batched_tokens", 256.into()),
            ("block_size", 32.into()),
            ("block_count", 9.into()),
            ("prefix_caching", serde_json::Value::Bool(false)),
        ] {
            assert_eq!(kept["info"][name], value, "{name}");
        }
    }

    #[test]
    fn an_unknown_server_is_its_name() {
        assert_eq!(facts(None).basics(), ["vllm at http://127.0.0.1:1"]);
    }
}
