//! A run to draw: a server that takes requests first come first served, runs so many at once, and
//! computes them all in each of its steps. The time of a step is the one that the figures of the
//! report this project starts from imply, with a little noise.

use std::collections::VecDeque;

use page::{LevelRun, Page};
use workload::analysis::{Evidence, Finding, analyse};
use workload::gauges::GaugeSample;
use workload::language::Language;
use workload::lengths::Lengths;
use workload::load::{Arrivals, LevelPlan, Load};
use workload::record::{RequestRecord, ServerTimings, Status, TokenChunk};
use workload::report::Report;
use workload::summary::LevelSummary;

/// Nanoseconds between two readings of the gauges.
const READING_NS: u64 = 75_000_000;
/// Tokens that a step computes at most.
const STEP_TOKENS: u32 = 2048;
/// Tokens that the KV cache holds.
const KV_TOKENS: f64 = 93_084.0;
/// Nanoseconds that a token takes from one side to the other.
const NETWORK_NS: u64 = 200_000;

/// How a run is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Users of each level.
    pub levels: &'a [u32],
    /// Requests of each user.
    pub requests_per_user: u32,
    /// Requests that run at once.
    pub cap: usize,
    /// Tokens of each request.
    pub lengths: Lengths,
}

/// The protocol of the report this project starts from.
pub const SEED: Setup<'_> = Setup {
    levels: &[1, 4, 8, 16, 32, 64],
    requests_per_user: 5,
    cap: 50,
    lengths: Lengths { prompt_tokens: 634, output_tokens: 1184 },
};

/// A small run that meets its cap.
pub const SMALL: Setup<'_> = Setup {
    levels: &[1, 4],
    requests_per_user: 3,
    cap: 3,
    lengths: Lengths { prompt_tokens: 10, output_tokens: 20 },
};

/// What a run left.
#[derive(Clone, Debug)]
pub struct Run {
    pub title: String,
    pub is_measurement: bool,
    pub basics: Vec<String>,
    pub max_num_seqs: Option<u32>,
    pub records: Vec<Vec<RequestRecord>>,
    pub samples: Vec<Vec<GaugeSample>>,
    pub levels: Vec<LevelSummary>,
    pub facts: Vec<(String, String)>,
}

impl Run {
    /// Runs every level of `setup`.
    pub fn of(setup: Setup<'_>) -> Run {
        let runs = setup.levels.iter().zip(1..).map(|(users, level)| {
            let mut server = Server::new(level, *users, setup);
            server.run();
            (server.records, server.samples)
        });
        let (records, samples): (Vec<_>, Vec<_>) = runs.unzip();
        let mut run = Run {
            title: "Load test of a simulated server".to_owned(),
            is_measurement: true,
            basics: vec!["RTX 4090".to_owned(), format!("max_num_seqs = {}", setup.cap)],
            max_num_seqs: Some(setup.cap as u32),
            records,
            samples,
            levels: Vec::new(),
            facts: vec![("Command".to_owned(), "millrace bench --preset seed".to_owned())],
        };
        run.sum_up(setup);
        run
    }

    /// Makes the summaries of the records.
    pub fn sum_up(&mut self, setup: Setup<'_>) {
        let parts = setup.levels.iter().zip(&self.records).zip(&self.samples);
        let summaries = parts.map(|((users, records), samples)| {
            let load = Load::closed(*users, setup.requests_per_user);
            let plan = LevelPlan { load, lengths: setup.lengths.into() };
            LevelSummary::of(plan, records.len(), records, samples)
        });
        self.levels = summaries.collect();
    }

    /// The page of the run, in English.
    pub fn html(&self) -> String {
        self.html_in(Language::English)
    }

    /// The page of the run.
    pub fn html_in(&self, language: Language) -> String {
        let findings = self.findings();
        let analysis: Vec<String> = findings.iter().map(|finding| finding.text(language)).collect();
        let parts = self.records.iter().zip(&self.samples);
        let runs: Vec<LevelRun<'_>> =
            parts.map(|(records, samples)| LevelRun { records, samples }).collect();
        let definitions = [("TTFT".to_owned(), "first token read - first byte written".to_owned())];
        let page = Page {
            title: &self.title,
            is_measurement: self.is_measurement,
            report: Report {
                basics: &self.basics,
                levels: &self.levels,
                analysis: &analysis,
                language,
            },
            findings: &findings,
            runs: &runs,
            max_num_seqs: self.max_num_seqs,
            facts: &self.facts,
            definitions: &definitions,
        };
        page.to_html()
    }

    fn findings(&self) -> Vec<Finding> {
        analyse(&Evidence {
            levels: &self.levels,
            levels_not_run: &[],
            max_num_seqs: self.max_num_seqs,
            max_num_batched_tokens: None,
            has_gauges: self.samples.iter().any(|samples| !samples.is_empty()),
            exact_prompts: true,
            host: None,
        })
    }
}

/// A run against a server that has no gauges, tells no times and counts no tokens.
pub fn silent() -> Run {
    let mut run = Run::of(SMALL);
    run.max_num_seqs = None;
    run.samples.iter_mut().for_each(Vec::clear);
    for record in run.records.iter_mut().flatten() {
        record.timings = None;
        record.completion_tokens = None;
        record.prompt_tokens = None;
        record.chunks.iter_mut().for_each(|chunk| chunk.tokens = None);
    }
    run.sum_up(SMALL);
    run
}

/// A run whose requests came by a schedule, some of them late.
pub fn scheduled() -> Run {
    let mut run = Run::of(SMALL);
    for ((records, samples), level) in run.records.iter_mut().zip(&run.samples).zip(&mut run.levels)
    {
        for (user, record) in (0..).zip(records.iter_mut()) {
            (record.user, record.index) = (user, 0);
            record.due_ns -= 5_000_000 * u64::from(user % 3);
        }
        let requests = records.len() as u32;
        let rate = f64::from(2 * requests);
        let load = Load::Open { arrivals: Arrivals::Poisson { rate }, requests };
        let plan = LevelPlan { load, ..level.plan.clone() };
        *level = LevelSummary::of(plan, records.len(), records, samples);
    }
    run
}

/// A run against a server whose every text tries to leave its place.
pub fn hostile() -> Run {
    let bait = "</script></style></svg>\"'><img src=x onerror=\"window.broken=1\">&\u{0}\u{202e}";
    let mut run = Run::of(SMALL);
    run.title = format!("Load test of {bait}");
    run.basics = vec![bait.to_owned(), format!("max_num_seqs = {bait}")];
    run.facts = vec![(bait.to_owned(), bait.to_owned())];
    for record in &mut run.records[1][3..] {
        record.finish_reason = Some(bait.to_owned());
        record.status = Status::Failed(format!("HTTP 500: {bait}"));
    }
    run.sum_up(SMALL);
    run
}

/// A request on its way.
#[derive(Clone, Debug)]
struct Open {
    user: u32,
    index: u32,
    sent_ns: u64,
    admitted_ns: u64,
    first_ns: u64,
    prompt_left: u32,
    chunks: Vec<TokenChunk>,
}

struct Server<'a> {
    setup: Setup<'a>,
    level: u32,
    now_ns: u64,
    noise: u64,
    waiting: VecDeque<Open>,
    running: Vec<Open>,
    records: Vec<RequestRecord>,
    samples: Vec<GaugeSample>,
}

impl<'a> Server<'a> {
    fn new(level: u32, users: u32, setup: Setup<'a>) -> Server<'a> {
        let mut server = Server {
            setup,
            level,
            now_ns: 1_000_000_000 * u64::from(level),
            noise: u64::from(level),
            waiting: VecDeque::new(),
            running: Vec::new(),
            records: Vec::new(),
            samples: Vec::new(),
        };
        for user in 0..users {
            server.send(user, 0);
        }
        server
    }

    fn send(&mut self, user: u32, index: u32) {
        self.waiting.push_back(Open {
            user,
            index,
            sent_ns: self.now_ns,
            admitted_ns: 0,
            first_ns: 0,
            prompt_left: self.setup.lengths.prompt_tokens,
            chunks: Vec::new(),
        });
    }

    fn run(&mut self) {
        while !self.waiting.is_empty() || !self.running.is_empty() {
            self.step();
            self.read_gauges();
        }
    }

    /// Admits what fits, computes a token of each request or a part of its prompt, ends the done.
    fn step(&mut self) {
        while self.running.len() < self.setup.cap
            && let Some(mut open) = self.waiting.pop_front()
        {
            open.admitted_ns = self.now_ns;
            self.running.push(open);
        }
        let decoding = self.running.iter().filter(|open| open.prompt_left == 0).count() as u32;
        let mut budget = STEP_TOKENS - decoding;
        let mut prompt_tokens = 0;
        for open in &mut self.running {
            let read = open.prompt_left.min(budget);
            budget -= read;
            prompt_tokens += read;
            open.prompt_left -= read;
        }
        self.now_ns += self.step_ns(prompt_tokens);
        let now_ns = self.now_ns;
        let read_ns = now_ns + NETWORK_NS + self.noise() % 300_000;
        for open in self.running.iter_mut().filter(|open| open.prompt_left == 0) {
            if open.chunks.is_empty() {
                open.first_ns = now_ns;
            }
            open.chunks.push(TokenChunk { at_ns: read_ns, tokens: Some(1) });
        }
        let length = self.setup.lengths.output_tokens as usize;
        let (done, running) =
            std::mem::take(&mut self.running).into_iter().partition(|o| o.chunks.len() == length);
        self.running = running;
        self.end(done);
    }

    fn end(&mut self, done: Vec<Open>) {
        for open in done {
            let (user, next) = (open.user, open.index + 1);
            self.records.push(record(self.level, &open, self.setup.lengths, self.now_ns));
            if next < self.setup.requests_per_user {
                self.send(user, next);
            }
        }
    }

    fn step_ns(&mut self, prompt_tokens: u32) -> u64 {
        let decode_us = (3200 + 200 * self.running.len() as u64).max(3660);
        let us = decode_us + 12 * u64::from(prompt_tokens);
        us * (980 + self.noise() % 40)
    }

    /// A number that looks random and is the same each time.
    fn noise(&mut self) -> u64 {
        self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.noise >> 33
    }

    fn read_gauges(&mut self) {
        if self.samples.last().is_some_and(|last| self.now_ns < last.at_ns + READING_NS) {
            return;
        }
        let tokens = self.running.iter().map(|o| o.chunks.len() as u32 + 634 - o.prompt_left);
        let tokens: u32 = tokens.sum();
        self.samples.push(GaugeSample {
            at_ns: self.now_ns,
            running: self.running.len() as u32,
            waiting: self.waiting.len() as u32,
            kv_usage: Some(f64::from(tokens) / KV_TOKENS),
            preemptions: Some(0),
        });
    }
}

fn record(level: u32, open: &Open, lengths: Lengths, now_ns: u64) -> RequestRecord {
    let last_ns = open.chunks.last().map(|chunk| chunk.at_ns);
    let ms = |from: u64, to: u64| Some((to - from) as f64 / 1e6);
    RequestRecord {
        level,
        user: open.user,
        index: open.index,
        due_ns: open.sent_ns,
        sent_ns: open.sent_ns,
        first_token_ns: open.chunks.first().map(|chunk| chunk.at_ns),
        last_token_ns: last_ns,
        client_delay_ns: 0,
        done_ns: last_ns.unwrap_or(now_ns),
        prompt_tokens: Some(lengths.prompt_tokens),
        completion_tokens: Some(lengths.output_tokens),
        asked_tokens: lengths.output_tokens,
        asked_prompt_tokens: Some(lengths.prompt_tokens),
        chunks: open.chunks.clone(),
        finish_reason: Some("length".to_owned()),
        status: Status::Ok,
        timings: Some(ServerTimings {
            queue_ms: ms(open.sent_ns, open.admitted_ns),
            prefill_ms: ms(open.admitted_ns, open.first_ns),
            decode_ms: ms(open.first_ns, now_ns),
            cached_prompt_tokens: Some(0),
        }),
    }
}
