//! `millrace generate`.

use std::io::{ErrorKind, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use engine::{CacheSalt, Event, FinishReason, Request, Tenant, TokenId};
use grammar::Guided;
use sampling::{SamplingParams, SamplingRequest};
use text::{Decoder, Message};

use crate::adapters;
use crate::buffers::Connections;
use crate::launch::{EngineArgs, Launched, launch, open};

/// Options of `millrace generate`.
#[derive(Args)]
pub struct GenerateArgs {
    /// What to answer; "-" reads it from stdin.
    prompt: String,

    /// System message before the prompt.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// Continue the prompt as plain text, without the model's chat template.
    #[arg(long, conflicts_with = "system")]
    raw: bool,

    /// Most tokens of the answer [default: what is left of the context].
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,

    /// 0 takes the likeliest token; up to 2.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,

    /// Share of probability that the kept tokens have together.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,

    /// Number of likeliest tokens kept; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    top_k: u32,

    /// Above 1 makes tokens that occurred before less likely.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,

    /// The same seed gives the same answer.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    #[command(flatten, next_help_heading = "Engine options")]
    engine: EngineArgs,
}

/// Streams one answer to stdout.
pub fn run(args: GenerateArgs) -> Result<ExitCode> {
    let adapter = adapters::only(&args.engine.lora)?;
    let prompt = read_prompt(&args.prompt)?;
    let (sink, reports) = mpsc::channel();
    let sink = move |report| drop(sink.send(report));
    let launched = launch(&args.engine, open(&args.engine)?, None, Connections::NONE, sink)?;
    let tokens = tokens(&args, &launched, prompt)?;
    let request = Request { adapter, ..request(&args, &launched, tokens)? };
    launched.handle.submit(request)?;
    let mut decoder = Decoder::new(launched.tokenizer.clone(), true);
    let mut out = std::io::stdout().lock();
    let mut end = None;
    while end.is_none() {
        let report = reports.recv().context("the engine has ended")?;
        let mut text = String::new();
        for event in report.events {
            match event {
                Event::Token { token, .. } => text += &decoder.push(token.0),
                Event::Finished { reason, times, .. } => end = Some((reason, times)),
                Event::Failed { failure, .. } => bail!(failure.message),
            }
        }
        match write!(out, "{text}").and_then(|()| out.flush()) {
            // Whoever read the answer has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written.context("cannot write the answer")?,
        }
    }
    writeln!(out, "{}", decoder.finish()).context("cannot write the answer")?;
    if let Some((reason, times)) = end
        && std::io::stderr().is_terminal()
    {
        say_times(reason, &times);
    }
    Ok(ExitCode::SUCCESS)
}

fn say_times(reason: FinishReason, times: &engine::RequestTimes) {
    let Some(first) = times.first_token else { return };
    let prefill = first.since(times.arrived).as_secs_f64();
    let decode = times.finished.since(first).as_secs_f64();
    let later = times.generated_tokens.saturating_sub(1);
    let rate = if decode > 0.0 { f64::from(later) / decode } else { 0.0 };
    let cut = if reason == FinishReason::Length { ", cut at the length limit" } else { "" };
    eprintln!(
        "[{} prompt tokens in {:.0} ms; {} tokens at {rate:.0} tokens/s{cut}]",
        times.prompt_tokens,
        prefill * 1e3,
        times.generated_tokens
    );
}

fn read_prompt(prompt: &str) -> Result<String> {
    if prompt != "-" {
        return Ok(prompt.to_string());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read the prompt from stdin")?;
    Ok(text)
}

fn tokens(args: &GenerateArgs, launched: &Launched, prompt: String) -> Result<Vec<u32>> {
    let tokenizer = &launched.tokenizer;
    match &launched.template {
        Some(template) if !args.raw => {
            let mut messages = Vec::new();
            messages.extend(args.system.clone().map(|system| Message::new("system", system)));
            messages.push(Message::new("user", prompt));
            Ok(tokenizer.encode_segments(&template.render(&messages, &[], true)?)?)
        }
        None if !args.raw && args.system.is_some() => {
            bail!("--system needs a chat template, and this model has none")
        }
        _ => Ok(tokenizer.encode_prompt(&prompt)?),
    }
}

fn request(
    args: &GenerateArgs,
    launched: &Launched,
    prompt: Vec<u32>,
) -> Result<Request<Guided<SamplingParams>>> {
    let limit = launched.handle.limits().max_model_len;
    let used = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    ensure!(used < limit, "the prompt has {used} tokens, and max_model_len is {limit}");
    let params = SamplingParams::new(
        SamplingRequest {
            temperature: args.temperature,
            top_p: args.top_p,
            top_k: args.top_k,
            repetition_penalty: args.repetition_penalty,
            seed: args.seed,
            ..SamplingRequest::default()
        },
        launched.tokenizer.vocabulary_len(),
    )?;
    Ok(Request {
        prompt: prompt.into_iter().map(TokenId).collect(),
        max_tokens: args.max_tokens.unwrap_or(limit - used),
        min_tokens: 0,
        stop_tokens: launched.tokenizer.end_tokens().iter().map(|&id| TokenId(id)).collect(),
        priority: 0,
        use_prefix_cache: true,
        cache_salt: CacheSalt::default(),
        adapter: None,
        tenant: Tenant::default(),
        params: params.into(),
    })
}
