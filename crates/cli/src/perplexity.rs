//! `millrace perplexity`.
//!
//! The definition is llama.cpp's, `perplexity()` in its `tools/perplexity/perplexity.cpp`, so that figures can be
//! compared: the text's tokens, without its last line end and with the model's begin token before them if its file
//! asks for one, are cut into windows. A begin token, if there is one, takes the place of each window's first token. Each
//! window is read by itself, and of its second half each token but the first is scored. The perplexity is `exp` of
//! the mean of -ln p over all of them, natural logarithms of the softmax over the whole vocabulary.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use engine::{AdapterId, CacheSalt, Event, Report, Request, Tenant, TokenId};
use grammar::Guided;
use sampling::{PromptScores, SamplingParams, SamplingRequest};
use text::{ControlTokens, Tokenizer};

use crate::adapters;
use crate::buffers::Connections;
use crate::launch::{EngineArgs, Launched, launch, open};

/// Options of `millrace perplexity`.
#[derive(Args)]
pub struct PerplexityArgs {
    /// The text, UTF-8; what spells a control token in it is text too.
    file: PathBuf,

    /// Tokens of a window. The model reads each by itself; what is left at the end is not read.
    #[arg(
        long,
        default_value_t = 512,
        value_parser = clap::value_parser!(u32).range(5..),
        value_name = "TOKENS"
    )]
    window: u32,

    #[command(flatten, next_help_heading = "Engine options")]
    engine: EngineArgs,
}

/// Prints how well the model predicts the text, as the engine computes it.
pub fn run(args: &PerplexityArgs) -> Result<ExitCode> {
    let adapter = adapters::only(&args.engine.lora)?;
    ensure!(
        args.engine.speculating().is_off(),
        "a text is only scored: there are no next tokens to guess. Leave --speculative-ngram and \
         --speculative-model out"
    );
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    let opened = open(&args.engine)?;
    // Before the weights are loaded, which may take minutes.
    let windows = windows(&opened.tokenizer, &text, args.window as usize)?;
    let (sink, reports) = mpsc::channel();
    let sink = move |report| drop(sink.send(report));
    let launched = launch(&args.engine, opened, None, Connections::NONE, sink)?;
    let mut surprise = Surprise::default();
    for (index, window) in windows.iter().enumerate() {
        surprise.add(&score((&launched, adapter), &reports, window)?);
        if std::io::stderr().is_terminal() {
            eprint!("\r{} of {} windows: {}", index + 1, windows.len(), surprise.estimate());
        }
    }
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    let report = report(&args.file, &windows, &surprise);
    write!(std::io::stdout(), "{report}").context("cannot write the perplexity")?;
    Ok(ExitCode::SUCCESS)
}

fn report(file: &Path, windows: &[Vec<u32>], surprise: &Surprise) -> String {
    format!(
        "{}: perplexity {} over {} tokens, the second halves of {} windows of {}\n",
        file.display(),
        surprise.estimate(),
        surprise.count,
        windows.len(),
        windows[0].len(),
    )
}

/// The windows of `text`, each of `len` tokens, at least one.
fn windows(tokenizer: &Tokenizer, text: &str, len: usize) -> Result<Vec<Vec<u32>>> {
    let begin = tokenizer.around_prompts().0;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut tokens: Vec<u32> = begin.into_iter().collect();
    tokens.extend(tokenizer.encode(text, ControlTokens::AsText)?);
    let found = tokens.len();
    ensure!(
        len <= found,
        "the text has {found} tokens, less than a --window of {len}: give a longer text or a \
         smaller --window"
    );
    let mut windows: Vec<_> = tokens.chunks_exact(len).map(<[u32]>::to_vec).collect();
    if let Some(begin) = begin {
        windows.iter_mut().for_each(|window| window[0] = begin);
    }
    Ok(windows)
}

/// Log-probabilities of the tokens of `window` that count.
fn score<E>(
    (launched, adapter): (&Launched, Option<AdapterId>),
    reports: &Receiver<Report<E>>,
    window: &[u32],
) -> Result<Vec<f32>> {
    let scores = PromptScores::new(window.len(), 0);
    let params =
        SamplingParams::new(SamplingRequest::default(), launched.tokenizer.vocabulary_len())?;
    let params: Guided<SamplingParams> = params.with_prompt_scores(scores.clone()).into();
    launched.handle.submit(Request {
        prompt: window.iter().copied().map(TokenId).collect(),
        max_tokens: 1,
        min_tokens: 0,
        stop_tokens: Vec::new(),
        priority: 0,
        use_prefix_cache: false,
        cache_salt: CacheSalt::default(),
        adapter,
        tenant: Tenant::default(),
        params,
    })?;
    loop {
        for event in reports.recv().context("the engine has ended")?.events {
            match event {
                Event::Token { .. } => {}
                // The first score is that of the second token.
                Event::Finished { .. } => {
                    let counted = &scores.all()[window.len() / 2..];
                    return Ok(counted.iter().map(|score| score.token).collect());
                }
                Event::Failed { failure, .. } => bail!(failure.message),
            }
        }
    }
}

/// Sums of -ln p and of its square, over the tokens scored so far.
#[derive(Default)]
struct Surprise {
    count: usize,
    sum: f64,
    square_sum: f64,
}

impl Surprise {
    fn add(&mut self, log_probs: &[f32]) {
        for surprise in log_probs.iter().map(|&log_prob| -f64::from(log_prob)) {
            self.count += 1;
            self.sum += surprise;
            self.square_sum += surprise * surprise;
        }
    }

    /// The perplexity and its standard error: that of the mean of -ln p, times the perplexity.
    fn estimate(&self) -> String {
        let count = self.count as f64;
        let mean = self.sum / count;
        let variance = (self.square_sum / count - mean * mean).max(0.0);
        let perplexity = mean.exp();
        let error = perplexity * (variance / (count - 1.0)).sqrt();
        format!("{perplexity:.4} ± {error:.4}")
    }
}

#[cfg(test)]
mod tests {
    use crate::source::Source;

    use super::*;

    #[test]
    fn of_two_tokens_the_perplexity_is_the_root_of_their_product() {
        let mut surprise = Surprise::default();
        surprise.add(&[-(2.0_f32.ln())]);
        surprise.add(&[-(8.0_f32.ln())]);
        // -ln p is ln 4 ∓ ln 2: the error of its mean is ln 2.
        assert_eq!(surprise.estimate(), format!("4.0000 ± {:.4}", 4.0 * 2.0_f64.ln()));
    }

    #[test]
    fn windows_begin_as_the_models_prompts_do() {
        let mut spec = Source::parse("dummy:tiny").unwrap().open().unwrap().tokenizer;
        let text = "one two three four five six\n";
        let plain = Tokenizer::new(spec.clone()).unwrap();
        let tokens = plain.encode(text.trim_end(), ControlTokens::AsText).unwrap();
        assert_eq!(windows(&plain, text, 4).unwrap(), tokens.chunks_exact(4).collect::<Vec<_>>());
        let begin = *spec.bos.get_or_insert(0);
        spec.add_bos = true;
        let begun = windows(&Tokenizer::new(spec).unwrap(), text, 4).unwrap();
        assert_eq!(begun[0], [&[begin], &tokens[..3]].concat());
        assert_eq!(begun[1], [&[begin], &tokens[4..7]].concat());
    }

    #[test]
    fn a_text_without_a_window_is_refused() {
        let spec = Source::parse("dummy:tiny").unwrap().open().unwrap().tokenizer;
        let error = windows(&Tokenizer::new(spec).unwrap(), "one", 512).unwrap_err().to_string();
        assert!(error.contains("less than a --window of 512"), "{error}");
    }

    #[test]
    fn a_text_that_is_too_short_is_refused_before_the_model_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("short.txt");
        std::fs::write(&file, "one two").unwrap();
        let said = |window: &str| {
            // No machine has memory for this cache, which is found before weights are read.
            let line =
                ["perplexity", "--model", "dummy:tiny", "--kv-cache-memory-bytes", "1000000GiB"];
            let line = line.into_iter().chain(["--window", window, file.to_str().unwrap()]);
            let command = PerplexityArgs::augment_args(clap::Command::new("perplexity"));
            let matches = command.try_get_matches_from(line).unwrap();
            let args = clap::FromArgMatches::from_arg_matches(&matches).unwrap();
            format!("{:#}", run(&args).unwrap_err())
        };
        assert!(said("512").contains("less than a --window of 512"), "{}", said("512"));
        assert!(!said("5").contains("--window"), "{}", said("5"));
    }
}
