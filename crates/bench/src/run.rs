//! A whole run: who the server is, a warm-up, level after level, the report.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use workload::analysis::{Evidence, Finding, analyse};
use workload::level::LevelName;
use workload::load::{LevelPlan, Load};
use workload::record::{RequestRecord, Status};
use workload::report::Report;
use workload::summary::{Counts, LevelSummary};
use workload::validity::{HostFacts, Verdict};

use crate::answer;
use crate::cancel::Cancel;
use crate::client::{Client, Connection, RawAnswer};
use crate::clock::Clock;
use crate::config::{Api, BenchConfig};
use crate::drive::{self, Finished, Live, Requests, Sender};
use crate::endpoint::Endpoint;
use crate::error::BenchError;
use crate::gauges::Sampler;
use crate::html;
use crate::journal::{Journal, Measured, Recorded};
use crate::loads::Loads;
use crate::output::{Definitions, RunSummary, remove_results, write_results};
use crate::probe::{hint, probe};
use crate::progress::{self, Progress, View};
use crate::prompts::PromptWriter;
use crate::resume::{self, Start};
use crate::script::Script;
use crate::setup::Setup;
use crate::tls::Tls;
use crate::vitals::{CpuMeter, host_facts};

/// What a run has come to.
#[derive(Debug)]
pub struct Outcome {
    /// The report, without a newline at its end.
    pub report: String,
    /// The same and more as data.
    pub summary: RunSummary,
    /// The first result that could not be written, if any; the report above is whole all the same.
    pub output_error: Option<BenchError>,
}

impl Outcome {
    /// Whether every request was sent, accounted for and answered (unless failures are allowed),
    /// every assertion held and every result was written: what the exit code should say. A run
    /// that was stopped is not a success.
    pub fn is_success(&self) -> bool {
        let RunSummary { counts, failures_allowed, .. } = self.summary;
        counts.balance()
            && (counts.failed == 0 || failures_allowed)
            && counts.dropped == 0
            && self.summary.assertions.iter().all(|result| result.passed)
            && !self.summary.interrupted
            && self.output_error.is_none()
    }
}

/// Tests the server of `config`, level after level, and reports. `cancel` stops it early: the
/// outcome then holds what was complete, and says what is missing.
///
/// Needs a tokio runtime with time and network. The load itself runs on a thread of its own, so
/// the caller's runtime may be single-threaded and may have other work.
///
/// # Errors
/// If there is nothing to report: bad settings, a server that does not answer or refuses the
/// warm-up request, an output folder that cannot be made.
pub async fn run(config: BenchConfig, cancel: Cancel) -> Result<Outcome, BenchError> {
    config.check()?;
    let earlier = resume::earlier(&config)?;
    let clock = Clock::start_at(earlier.as_ref().map_or(0, Recorded::end_ns));
    let endpoint = Endpoint::parse(&config.url)?;
    let tls = Tls::of(&endpoint, &config.trust)?;
    let client = Client::new(endpoint, tls, config.api_key.as_deref(), &config.form.headers, clock);
    let mut connection = Connection::new(client.clone(), Arc::default());
    let learn = async {
        let named = config.form.extra_body.get("model").and_then(|name| name.as_str());
        let server = probe(&client, &mut connection, named).await?;
        let prompts = PromptWriter::new(&client, &mut connection, &server.model).await;
        Ok((server, prompts))
    };
    let (server, prompts) = tokio::select! {
        learned = learn => learned?,
        () = cancel.cancelled() => return Err(BenchError::Stopped),
    };
    let host = host_facts(client.endpoint());
    let setup = Setup::of(&config, server, prompts.is_exact());
    let progress = Progress::new();
    let Start { kept, resumes, notes } = Start::of(&config, &setup, earlier)?;
    notes.iter().for_each(|note| progress.note(note));
    let begin = |folder| Journal::begin(folder, &setup, resumes, &kept);
    let journal = config.out.as_deref().map(begin).transpose()?;
    config.out.as_deref().map(remove_results).transpose()?;
    let counting = Connection::new(client.clone(), Arc::default());
    let script = Script::new(&config, &setup.server, prompts, counting, resumes);
    let mut run = Run {
        config,
        cancel,
        client,
        connection,
        setup,
        host,
        script,
        journal,
        output_error: None,
        progress,
        is_warm: false,
        continued: kept.iter().map(|level| LevelName::of(&level.plan)).collect(),
        kept,
        resumes,
        levels: Vec::new(),
        measured: Vec::new(),
    };
    let levels = run.all_levels().await;
    run.progress.end();
    levels?;
    Ok(run.finish())
}

struct Run {
    config: BenchConfig,
    cancel: Cancel,
    client: Client,
    /// For the warm-up.
    connection: Connection,
    setup: Setup,
    host: HostFacts,
    script: Script,
    journal: Option<Journal>,
    output_error: Option<BenchError>,
    progress: Progress,
    /// Whether the request before the first level has been sent.
    is_warm: bool,
    /// Levels that an earlier part of this run completed.
    kept: Vec<Measured>,
    /// Their names.
    continued: Vec<LevelName>,
    /// How often it was continued.
    resumes: u32,
    levels: Vec<LevelSummary>,
    /// What the page draws of each level; empty without a folder for it.
    measured: Vec<Measured>,
}

impl Run {
    /// One request that is not measured, so that the first level meets a warm server.
    async fn warm_up(&mut self) -> Result<(), BenchError> {
        self.is_warm = true;
        self.progress.begin("warm-up", 1, self.client.clock().now_ns());
        let cancel = self.cancel.clone();
        let mut answer = RawAnswer::default();
        let ask = async {
            let (call, prompt_tokens) = self.script.warm_up(&self.config.lengths).await;
            self.connection.exchange(&call, &mut answer).await;
            prompt_tokens
        };
        let asked = tokio::select! {
            prompt_tokens = ask => Some(prompt_tokens),
            () = cancel.cancelled() => None,
        };
        let Some(asked) = asked else {
            self.progress.stopping();
            return Ok(());
        };
        match answer::read(&answer) {
            (_, Status::Failed(reason) | Status::Refused(reason)) => {
                let hint = match (answer.status, self.config.form.api) {
                    (Some(404 | 405), Api::Completions) => {
                        "; if it answers chats alone, give `--endpoint chat`"
                    }
                    (status, _) => hint(status),
                };
                Err(BenchError::WarmUp { reason, hint })
            }
            (reading, _) => {
                self.script.learn(asked, reading.prompt_tokens.unwrap_or(0));
                Ok(())
            }
        }
    }

    async fn all_levels(&mut self) -> Result<(), BenchError> {
        for number in 1.. {
            let plan = match self.config.loads.next(&self.levels, self.config.seed) {
                Ok(load) => self.config.plan(load),
                Err(reason) => {
                    if let Some(reason) = reason {
                        self.progress.note(&format!("no further level: {reason}"));
                    }
                    break;
                }
            };
            let kept = self.kept.iter().position(|kept| kept.level == number);
            let (measured, level) = match kept.map(|place| self.kept.swap_remove(place)) {
                Some(measured) => {
                    let level = measured.summary(self.config.slo);
                    (measured, level)
                }
                None => match self.run_level(number, plan).await? {
                    Some(measured) => measured,
                    None => break,
                },
            };
            self.levels.push(level);
            if self.journal.is_some() {
                self.measured.push(measured);
            }
        }
        Ok(())
    }

    /// Runs a level and writes it down. `None` if the run is stopped before it begins.
    async fn run_level(
        &mut self,
        number: u32,
        plan: LevelPlan,
    ) -> Result<Option<(Measured, LevelSummary)>, BenchError> {
        if !self.is_warm {
            self.warm_up().await?;
        }
        let Some(requests) = self.prepare(number, &plan).await? else { return Ok(None) };
        let measured = self.level(number, plan, requests).await?;
        let level = measured.summary(self.config.slo);
        if let Some(journal) = &mut self.journal
            && level.is_complete()
            && let Err(error) = journal.end_level(&measured)
        {
            self.output_error.get_or_insert(error);
        }
        self.progress.end_level(&level);
        Ok(Some((measured, level)))
    }

    /// The requests of a level. `None` if the run is stopped meanwhile.
    async fn prepare(
        &mut self,
        number: u32,
        plan: &LevelPlan,
    ) -> Result<Option<Requests>, BenchError> {
        let name = format!("prompts for {}", progress::name(&plan.load));
        self.progress.begin(&name, plan.requests(), self.client.clock().now_ns());
        let cancel = self.cancel.clone();
        let requests = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            requests = self.write_requests(number, plan) => Some(requests),
        };
        if requests.is_none() {
            self.progress.stopping();
        }
        let too_long = self.script.take_too_long();
        if 0 < too_long {
            let note = format!(
                "{too_long} requests of the data set are longer than the server's \
                context; others are sent in their place"
            );
            self.progress.note(&note);
        }
        requests.transpose()
    }

    async fn write_requests(
        &mut self,
        level: u32,
        plan: &LevelPlan,
    ) -> Result<Requests, BenchError> {
        self.script.begin_level(self.levels.iter().map(|level| level.plan.requests()).sum());
        let clock = self.client.clock();
        let mut done = 0;
        match (&plan.load, &self.config.loads) {
            (&Load::Open { arrivals, requests }, &Loads::Open { max_connections, .. }) => {
                let times = self.config.schedule_ns(arrivals, requests, level);
                let mut written = Vec::new();
                for (number, due_ns) in (0..).zip(times) {
                    let of_one = self.script.conversation(plan, (level, number, 0), 1).await?;
                    written.extend(of_one.into_iter().map(|request| (due_ns, request)));
                    self.progress.step(written.len(), clock.now_ns());
                }
                Ok(Requests::Open { requests: written, max_connections })
            }
            _ => {
                let users = plan.users().unwrap_or(0);
                let of_each = plan.requests() as u32 / users.max(1);
                let mut written = Vec::new();
                for user in 0..users {
                    let mut of_user = Vec::new();
                    while (of_user.len() as u32) < of_each {
                        let begin = of_user.len() as u32;
                        let left = of_each - begin;
                        let more = self.script.conversation(plan, (level, user, begin), left);
                        of_user.extend(more.await?);
                    }
                    done += of_user.len();
                    written.push(of_user);
                    self.progress.step(done, clock.now_ns());
                }
                Ok(Requests::Closed(written))
            }
        }
    }

    async fn level(
        &mut self,
        number: u32,
        plan: LevelPlan,
        requests: Requests,
    ) -> Result<Measured, BenchError> {
        let name = self.title(number, &plan);
        let (total, tokens) = (plan.requests(), requests.output_tokens());
        self.progress.begin_level(&name, total, tokens, self.client.clock().now_ns());
        let sampler = self.setup.server.has_gauges.then(|| Sampler::start(self.client.clone()));
        let meter = CpuMeter::start(self.config.server_pid, plan.users().unwrap_or(0));
        let live = Arc::new(Live::default());
        let (sender, finished) = mpsc::unbounded_channel();
        let sender = Sender {
            client: self.client.clone(),
            cancel: self.cancel.clone(),
            live: Arc::clone(&live),
            finished: sender,
        };
        let thread =
            drive::start(requests, sender).map_err(|source| BenchError::Thread { source })?;
        let records = self.collect(number, finished, &live, sampler.as_ref()).await;
        if self.cancel.is_cancelled() {
            self.progress.stopping();
        }
        let thread = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let client = meter.stop(thread);
        let samples = match sampler {
            Some(sampler) => sampler.stop().await,
            None => Vec::new(),
        };
        let sent = live.sent.load(Relaxed);
        Ok(Measured { level: number, plan, sent, records, samples, client })
    }

    /// What a level is called while it runs: `level 2 of 6: 4 users`.
    fn title(&self, number: u32, plan: &LevelPlan) -> String {
        let name = progress::name(&plan.load);
        match self.config.loads.listed(self.config.seed).len() {
            0 => format!("level {number}: {name}"),
            levels => format!("level {number} of {levels}: {name}"),
        }
    }

    /// Reads answers as they finish, until the level is over.
    async fn collect(
        &mut self,
        level: u32,
        mut finished: mpsc::UnboundedReceiver<Finished>,
        live: &Live,
        sampler: Option<&Sampler>,
    ) -> Vec<RequestRecord> {
        let mut ticks = interval(progress::PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let cancel = self.cancel.clone();
        let mut records = Vec::new();
        loop {
            tokio::select! {
                () = cancel.cancelled(), if !self.progress.is_stopping() => {
                    self.progress.stopping();
                }
                next = finished.recv() => match next {
                    Some(finished) => records.push(self.keep(level, finished)),
                    None => return records,
                },
                _ = ticks.tick() => self.progress.update(&View {
                    at_ns: self.client.clock().now_ns(),
                    records: &records,
                    pieces: live.pieces.load(Relaxed),
                    gauges: sampler.and_then(Sampler::latest),
                }),
            }
        }
    }

    /// Makes a record of a finished request and writes it down.
    fn keep(&mut self, level: u32, finished: Finished) -> RequestRecord {
        let record = record(level, finished);
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.record(&record)
        {
            self.output_error.get_or_insert(error);
        }
        record
    }

    fn finish(mut self) -> Outcome {
        let not_run =
            self.config.loads.listed(self.config.seed).into_iter().skip(self.levels.len());
        let levels_not_run: Vec<_> =
            not_run.map(|load| LevelName::of(&self.config.plan(load))).collect();
        let info = self.setup.server.info.as_ref();
        let mut findings = analyse(&Evidence {
            levels: &self.levels,
            levels_not_run: &levels_not_run,
            max_num_seqs: info.and_then(|info| info.max_num_seqs),
            max_num_batched_tokens: info.and_then(|info| info.max_num_batched_tokens),
            has_gauges: self.setup.server.has_gauges,
            exact_prompts: self.script.is_exact(),
            host: Some(&self.host),
        });
        if !self.continued.is_empty() {
            findings.push(Finding::Continued { levels: std::mem::take(&mut self.continued) });
        }
        let language = self.config.language;
        let analysis: Vec<_> = findings.iter().map(|finding| finding.text(language)).collect();
        let basics = self.setup.server.basics();
        let report =
            Report { basics: &basics, levels: &self.levels, analysis: &analysis, language };
        let report = report.to_markdown();
        let folder = self.config.out.take();
        let mut output_error = self.output_error.take();
        let measured = std::mem::take(&mut self.measured);
        let command = std::mem::take(&mut self.config.command);
        let summary = self.summary(findings, analysis);
        let write = |folder: PathBuf| {
            let page = html::page(&summary, &measured, language, &command);
            write_results(&folder, &report, &page, &summary)
        };
        if let Some(error) = folder.and_then(|folder| write(folder).err()) {
            output_error.get_or_insert(error);
        }
        Outcome { report, summary, output_error }
    }

    fn summary(self, findings: Vec<Finding>, analysis: Vec<String>) -> RunSummary {
        let counts = self.levels.iter().map(|level| level.counts);
        let verdict = self.levels.iter().map(|level| level.validity.verdict).max();
        let assertions = self.config.assertions.iter();
        let levels_asked = match &self.config.loads {
            Loads::Doubling { .. } => self.levels.iter().map(|l| l.plan.load.clone()).collect(),
            Loads::Closed { .. } | Loads::Open { .. } => self.config.loads.listed(self.config.seed),
        };
        let is_whole = !self.cancel.is_cancelled()
            && self.levels.len() == levels_asked.len()
            && self.levels.iter().all(LevelSummary::is_complete);
        RunSummary {
            setup: Setup { exact_prompts: self.script.is_exact(), ..self.setup },
            resumes: self.resumes,
            levels_asked,
            host: self.host,
            verdict: verdict.unwrap_or(Verdict::Valid),
            interrupted: !is_whole,
            failures_allowed: self.config.failures_allowed,
            assertions: assertions.map(|assertion| assertion.check(&self.levels)).collect(),
            counts: counts.fold(Counts::default(), Counts::plus),
            levels: self.levels,
            findings,
            analysis,
            definitions: Definitions::OURS,
        }
    }
}

fn record(level: u32, finished: Finished) -> RequestRecord {
    let Finished { user, index, asked, due_ns, answer, ended } = finished;
    let (reading, status) = answer::read(&answer);
    RequestRecord {
        level,
        user,
        index,
        due_ns,
        sent_ns: answer.sent_ns,
        first_token_ns: reading.first_token_ns,
        last_token_ns: reading.last_token_ns,
        client_delay_ns: answer.delay_ns,
        done_ns: answer.done_ns,
        prompt_tokens: reading.prompt_tokens,
        completion_tokens: reading.completion_tokens,
        asked_tokens: asked.output_tokens,
        asked_prompt_tokens: asked.prompt_tokens,
        chunks: reading.chunks,
        finish_reason: reading.finish_reason,
        status: ended.unwrap_or(status),
        timings: reading.timings,
    }
}
