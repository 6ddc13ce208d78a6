//! At every scrape all figures agree, whatever becomes of the requests.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{Reply, request, send};
use crate::device::Gate;
use crate::harness::{Metrics, Server, Setup};

const COMPLETIONS: &str = "/v1/completions";
const SEEDS: u64 = 12;
const ACTIONS: usize = 40;

/// A small generator: the next below `bound` of a sequence that `seed` decides.
fn next(seed: &mut u64, bound: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % bound
}

/// A scrape, line by line: series with labels, and values.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(metrics: &Metrics) -> Self {
        let lines = metrics.0.lines().filter(|line| !line.starts_with('#'));
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            (series.replace("model_name=\"tiny\",engine=\"0\"", ""), value.parse().unwrap())
        };
        Scrape(lines.map(line).collect())
    }

    /// The sum of all series of `name`, those with further labels too.
    fn sum(&self, name: &str) -> f64 {
        let of_name = |series: &&String| series.split('{').next() == Some(name);
        self.0.iter().filter(|(series, _)| of_name(series)).map(|(_, value)| value).sum()
    }

    fn ended(&self, reason: &str) -> f64 {
        self.0[&format!("vllm:request_success_total{{,finished_reason=\"{reason}\"}}")]
    }

    /// Names of histograms, and their counts.
    fn histograms(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.0.iter().filter_map(|(series, count)| {
            let (name, labels) = series.split_once("_count{")?;
            Some((name, labels.trim_end_matches('}'), *count))
        })
    }

    fn check_histograms(&self) {
        for (name, labels, count) in self.histograms() {
            let bucket = format!("{name}_bucket{{");
            let buckets = self.0.iter().filter(|(series, _)| {
                series.starts_with(&bucket) && series.contains(&format!("{labels}}}"))
            });
            let greatest = buckets.clone().map(|(_, value)| *value).fold(0.0, f64::max);
            let mut whole = buckets.filter(|(series, _)| series.contains("le=\"+Inf\""));
            let (_, all) = whole.next().expect("a histogram has a bucket for all");
            assert_eq!((*all, greatest), (count, count), "{name} {labels}");
            assert!(0.0 <= self.0[&format!("{name}_sum{{{labels}}}")], "{name}");
        }
    }

    fn check_accounts(&self) {
        let accepted = self.sum("millrace:requests_accepted_total");
        assert_eq!(self.sum("vllm:request_params_max_tokens_count"), accepted);
        assert!(self.sum("vllm:request_params_n_count") <= accepted);
        let whole = self.ended("stop") + self.ended("length") + self.ended("abort");
        for name in [
            "vllm:e2e_request_latency_seconds",
            "vllm:request_prompt_tokens",
            "vllm:request_prefill_kv_computed_tokens",
            "vllm:request_generation_tokens",
            "vllm:request_num_preemptions",
        ] {
            assert_eq!(self.sum(&format!("{name}_count")), whole, "{name}");
        }
        assert_eq!(self.sum("vllm:corrupted_requests_total"), self.ended("error"));
        let (waiting, by_reason) =
            ("vllm:num_requests_waiting", "vllm:num_requests_waiting_by_reason");
        assert_eq!(self.sum(by_reason), self.sum(waiting));
        let tokens = self.sum("vllm:time_to_first_token_seconds_count")
            + self.sum("vllm:inter_token_latency_seconds_count");
        assert_eq!(tokens, self.sum("vllm:generation_tokens_total"));
        let prompts =
            self.sum("vllm:prompt_tokens_total") + self.sum("vllm:prompt_tokens_cached_total");
        assert_eq!(self.sum("vllm:prompt_tokens_by_source_total"), prompts);
        assert!(
            self.sum("vllm:prompt_tokens_total") <= self.sum("vllm:iteration_tokens_total_sum")
        );
    }

    /// Nothing that counts has gone back.
    fn check_grown(&self, before: &Scrape) {
        for (series, value) in &before.0 {
            let name = series.split('{').next().expect("a name");
            let counts =
                ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
            assert!(!counts || value <= &self.0[series], "{series} was {value}");
        }
    }
}

/// One server, its clients and the scrape before.
struct Mix {
    server: Server,
    gate: Option<Gate>,
    seed: u64,
    /// Each with the choices that it asks for.
    clients: Vec<(JoinHandle<Reply>, u64)>,
    /// Choices of clients that have left, of which nobody knows what became.
    left: u64,
    before: Scrape,
}

impl Mix {
    /// A body of which something becomes: an answer, a stop, a refusal or a failure.
    fn body(&mut self) -> Value {
        let prompt = match next(&mut self.seed, 6) {
            0 => "!".to_owned(),
            1 => "ab$".to_owned(),
            // Different beginnings, so that answers compete for blocks.
            _ => {
                let letter = char::from(b'd' + next(&mut self.seed, 20) as u8);
                format!("{letter}ca").repeat(1 + next(&mut self.seed, 80) as usize)
            }
        };
        let mut body = json!({
            "prompt": prompt, "temperature": 0, "max_tokens": 1 + next(&mut self.seed, 120),
            "n": 1 + next(&mut self.seed, 3), "stream": next(&mut self.seed, 2) == 0,
        });
        match next(&mut self.seed, 8) {
            0 => body["temperature"] = json!(9),
            1 => body["stop"] = json!("ca"),
            _ => {}
        }
        body
    }

    async fn act(&mut self) {
        match next(&mut self.seed, 4) {
            0 if !self.clients.is_empty() => {
                let index = next(&mut self.seed, self.clients.len() as u64) as usize;
                let (client, choices) = self.clients.swap_remove(index);
                client.abort();
                self.left += choices;
            }
            0 | 1 => {
                let body = self.body();
                let request = request(Method::POST, COMPLETIONS, &body.to_string());
                let address = self.server.address;
                let client = async move { send(address, request).await.unwrap().reply().await };
                let choices = body["n"].as_u64().expect("a number");
                self.clients.push((tokio::spawn(client), choices));
            }
            _ => {
                let steps = next(&mut self.seed, 40) as usize;
                if let Some(gate) = &self.gate {
                    gate.allow(steps);
                }
            }
        }
        self.scrape().await;
    }

    /// What came to the clients that stayed; their account must be that of the server.
    async fn end(&mut self) -> Vec<String> {
        self.gate = None;
        let (mut statuses, mut answered, mut refused) = (Vec::new(), 0, 0);
        for (client, choices) in std::mem::take(&mut self.clients) {
            let status = client.await.expect("not aborted").status.as_str().to_owned();
            match &*status {
                "200" | "500" => answered += choices,
                // Those of its choices that had places gave them back.
                "429" => refused += choices,
                _ => {}
            }
            statuses.push(status);
        }
        self.server.idle().await;
        self.scrape().await;
        let accepted = self.before.sum("millrace:requests_accepted_total") as u64;
        let most = answered + refused + self.left;
        assert!((answered..=most).contains(&accepted), "{answered} <= {accepted} <= {most}");
        statuses
    }

    async fn scrape(&mut self) {
        let scrape = Scrape::of(&self.server.metrics().await);
        scrape.check_histograms();
        scrape.check_accounts();
        scrape.check_grown(&self.before);
        self.before = scrape;
    }
}

#[tokio::test]
async fn figures_agree_at_every_scrape_whatever_becomes_of_requests() {
    let mut ends = BTreeMap::new();
    for seed in 0..SEEDS {
        // A panic tells which one it was.
        println!("seed {seed}");
        let mut setup = Setup::new();
        setup.engine.max_num_seqs = 3;
        setup.engine.max_num_queued_reqs = 4;
        setup.engine.block_count = 24;
        setup.engine.max_num_batched_tokens = 64;
        let (server, gate) = setup.start_gated().await;
        let before = Scrape(BTreeMap::new());
        let mut mix = Mix { server, gate: Some(gate), seed, clients: Vec::new(), left: 0, before };
        for _ in 0..ACTIONS {
            mix.act().await;
        }
        for status in mix.end().await {
            *ends.entry(status).or_insert(0.0) += 1.0;
        }
        let sum = mix.before.sum("vllm:request_generation_tokens_sum");
        assert_eq!(sum, mix.before.sum("vllm:generation_tokens_total"));
        for reason in ["stop", "length", "abort", "error"] {
            *ends.entry(reason.to_owned()).or_insert(0.0) += mix.before.ended(reason);
        }
        let preempted = mix.before.sum("vllm:num_preemptions_total");
        *ends.entry("preempted".to_owned()).or_insert(0.0) += preempted;
    }
    for what in ["200", "400", "429", "500", "stop", "length", "abort", "error", "preempted"] {
        assert!(0.0 < ends.get(what).copied().unwrap_or(0.0), "nothing became {what}: {ends:?}");
    }
}
