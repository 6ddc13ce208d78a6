//! How the work goes, in a line and for routers.

use std::time::Duration;

use engine::Snapshot;

use super::share;

/// How the work goes: what the log says every few seconds while there is any, and what routers ask.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The engine's state.
    pub snapshot: Snapshot,
    /// Open requests that run.
    pub running: u64,
    /// Open requests that do not run.
    pub waiting: u64,
}

impl Progress {
    /// The line for the time since `earlier`; none when nothing ran and nothing is open.
    ///
    /// Rates are per second over `elapsed`; the hit rate is that of this stretch of time.
    pub fn line(&self, earlier: &Progress, elapsed: Duration) -> Option<String> {
        let (now, then) = (&self.snapshot, &earlier.snapshot);
        if now.steps_total == then.steps_total && self.running == 0 && self.waiting == 0 {
            return None;
        }
        let rate = |now: u64, then: u64| (now - then) as f64 / elapsed.as_secs_f64();
        let queries = now.prefix_queries_total - then.prefix_queries_total;
        let hits = now.prefix_hits_total - then.prefix_hits_total;
        Some(format!(
            "Engine 000: Avg prompt throughput: {:.1} tokens/s, \
             Avg generation throughput: {:.1} tokens/s, Running: {} reqs, Waiting: {} reqs, \
             CPU KV cache usage: {:.1}%, Prefix cache hit rate: {:.1}%",
            rate(now.prompt_tokens_total, then.prompt_tokens_total),
            rate(now.generation_tokens_total, then.generation_tokens_total),
            self.running,
            self.waiting,
            100.0 * now.kv_usage(),
            100.0 * share(hits, queries),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(snapshot: Snapshot) -> Progress {
        Progress { snapshot, running: 3, waiting: 2 }
    }

    #[test]
    fn the_progress_line_has_the_words_that_vllm_users_look_for() {
        let now = Snapshot {
            running: 3,
            blocks_used: 1,
            blocks_total: 8,
            steps_total: 5,
            prompt_tokens_total: 150,
            generation_tokens_total: 25,
            prefix_queries_total: 40,
            prefix_hits_total: 10,
            ..Snapshot::default()
        };
        let line = progress(now).line(&progress(Snapshot::default()), Duration::from_secs(10));
        assert_eq!(
            line.unwrap(),
            "Engine 000: Avg prompt throughput: 15.0 tokens/s, Avg generation throughput: 2.5 \
             tokens/s, Running: 3 reqs, Waiting: 2 reqs, CPU KV cache usage: 12.5%, Prefix cache \
             hit rate: 25.0%"
        );
    }

    #[test]
    fn an_idle_engine_says_nothing() {
        let idle = Progress { snapshot: Snapshot::default(), running: 0, waiting: 0 };
        assert_eq!(idle.line(&idle, Duration::from_secs(10)), None);
    }
}
