//! The server's `/metrics`, read on the side while a level runs.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use workload::gauges::GaugeSample;

use crate::client::{Client, Connection};

/// Where servers have their metrics.
pub(crate) const PATH: &str = "/metrics";

/// Time between two readings: ten a second are needed to see a plateau, so a few more are taken.
const PERIOD: Duration = Duration::from_millis(75);

/// Names of the gauge of running requests: vLLM's (and ours), llama-server's, SGLang's.
const RUNNING: [&str; 3] =
    ["vllm:num_requests_running", "llamacpp:requests_processing", "sglang:num_running_reqs"];
const WAITING: [&str; 3] =
    ["vllm:num_requests_waiting", "llamacpp:requests_deferred", "sglang:num_queue_reqs"];
const KV_USAGE: [&str; 4] = [
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "llamacpp:kv_cache_usage_ratio",
    "sglang:token_usage",
];
const PREEMPTIONS: [&str; 2] = ["vllm:num_preemptions_total", "vllm:num_preemptions"];

/// What one page of metrics says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Gauges {
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    pub(crate) kv_usage: Option<f64>,
    pub(crate) preemptions: Option<u64>,
}

/// Reads a page in Prometheus' text format. `None` without gauges of running and waiting requests.
pub(crate) fn read(page: &[u8]) -> Option<Gauges> {
    let page = std::str::from_utf8(page).ok()?;
    let samples: Vec<_> = page.lines().filter_map(sample).collect();
    // Several series of one name belong to several engines behind one address.
    let values = |names: &[&str]| -> Vec<f64> {
        let name = names.iter().find(|name| samples.iter().any(|(found, _)| found == *name));
        let of_name = samples.iter().filter(|(found, _)| Some(found) == name);
        of_name.map(|(_, value)| *value).collect()
    };
    let sum = |names: &[&str]| -> Option<f64> {
        let values = values(names);
        (!values.is_empty()).then(|| values.iter().sum())
    };
    Some(Gauges {
        running: sum(&RUNNING)? as u32,
        waiting: sum(&WAITING)? as u32,
        kv_usage: values(&KV_USAGE).into_iter().max_by(f64::total_cmp),
        preemptions: sum(&PREEMPTIONS).map(|count| count as u64),
    })
}

/// Name and value of a line like `name{label="x"} 7 1700000000`.
fn sample(line: &str) -> Option<(&str, f64)> {
    let name_end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(name_end);
    let values = match rest.strip_prefix('{') {
        Some(labelled) => &labelled[labelled.rfind('}')? + 1..],
        None => rest,
    };
    let value = values.split_ascii_whitespace().next()?.parse().ok()?;
    (!name.starts_with('#')).then_some((name, value))
}

/// Reads the gauges of a server again and again until it is stopped.
#[derive(Debug)]
pub(crate) struct Sampler {
    task: JoinHandle<Vec<GaugeSample>>,
    stop: oneshot::Sender<()>,
    latest: watch::Receiver<Option<GaugeSample>>,
}

impl Sampler {
    /// Begins to read, over a connection of its own.
    pub(crate) fn start(client: Client) -> Sampler {
        let (stop, stopped) = oneshot::channel();
        let (sender, latest) = watch::channel(None);
        let task = tokio::spawn(sample_until(client, stopped, sender));
        Sampler { task, stop, latest }
    }

    /// The last reading.
    pub(crate) fn latest(&self) -> Option<GaugeSample> {
        *self.latest.borrow()
    }

    /// Ends it; gives every reading.
    pub(crate) async fn stop(self) -> Vec<GaugeSample> {
        drop(self.stop);
        self.task.await.expect("the task neither panics nor is it aborted")
    }
}

async fn sample_until(
    client: Client,
    mut stopped: oneshot::Receiver<()>,
    latest: watch::Sender<Option<GaugeSample>>,
) -> Vec<GaugeSample> {
    let mut connection = Connection::new(client.clone(), Default::default());
    let call = client.get(PATH);
    let mut samples = Vec::new();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let reading = async {
            ticks.tick().await;
            connection.ask(&call).await
        };
        let page = tokio::select! {
            page = reading => page,
            _ = &mut stopped => return samples,
        };
        if let Some(gauges) = page.and_then(|page| read(&page)) {
            let Gauges { running, waiting, kv_usage, preemptions } = gauges;
            let at_ns = client.clock().now_ns();
            let sample = GaugeSample { at_ns, running, waiting, kv_usage, preemptions };
            samples.push(sample);
            latest.send_replace(Some(sample));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vllm_pages_are_read_and_engines_added_up() {
        let page = b"# HELP vllm:num_requests_running Requests.\n\
            # TYPE vllm:num_requests_running gauge\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"a {b} c\"} 30.0\n\
            vllm:num_requests_running{engine=\"1\",model_name=\"a\"} 20.0\n\
            vllm:num_requests_waiting{engine=\"0\"} 14 1700000000\n\
            vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 99\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n\
            vllm:kv_cache_usage_perc{engine=\"1\"} 0.5\n\
            vllm:num_preemptions_total{engine=\"0\"} 3\n";
        let expected =
            Gauges { running: 50, waiting: 14, kv_usage: Some(0.5), preemptions: Some(3) };
        assert_eq!(read(page), Some(expected));
    }

    #[test]
    fn llama_server_pages_are_read() {
        let page = b"llamacpp:requests_processing 4\nllamacpp:requests_deferred 2\n";
        let expected = Gauges { running: 4, waiting: 2, kv_usage: None, preemptions: None };
        assert_eq!(read(page), Some(expected));
    }

    #[test]
    fn other_pages_have_no_gauges() {
        assert_eq!(read(b""), None);
        assert_eq!(read(b"<html>{}</html>\nprocess_cpu_seconds_total 1\n} 2\n{\n"), None);
        assert_eq!(read(b"vllm:num_requests_running 1\n"), None);
        assert_eq!(read(b"\xff\xfe"), None);
    }
}
