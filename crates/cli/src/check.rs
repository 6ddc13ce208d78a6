//! `millrace check`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use model::file::ModelFile;
use model::weights::Weights;
use text::{ChatTemplate, ControlTokens, Message, Tokenizer};

use crate::errors;
use crate::source::Source;

/// Exit code for a model that is not usable.
const UNUSABLE: u8 = 2;

/// Options of `millrace check`.
#[derive(Args)]
pub struct CheckArgs {
    /// A name of the catalogue or of the Hugging Face hub (hf:ORG/NAME), a path to a .gguf file or to a
    /// folder, or dummy:SHAPE.
    #[arg(default_value = "smollm2-135m")]
    model: String,
}

/// Says what the model is, or what is wrong with it; reads no weights.
pub fn run(args: &CheckArgs) -> Result<ExitCode> {
    match Source::parse(&args.model).and_then(|source| examine(&source)) {
        Ok(description) => {
            write!(std::io::stdout(), "{description}").context("cannot write the description")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("millrace: {}", errors::line(&error));
            Ok(ExitCode::from(UNUSABLE))
        }
    }
}

fn examine(source: &Source) -> Result<String> {
    let file = source.open()?;
    Weights::check(&file.config)?;
    let tokenizer = Tokenizer::new(file.tokenizer.clone()).context("tokenizer")?;
    tokenizer.encode("a b", ControlTokens::Parse).context("tokenizer")?;
    let mut description = file.description();
    let weights = Weights::bytes_of(&file) as f64 / f64::from(1 << 20);
    description += &format!("{:<14} {weights:.1} MiB packed\n", "weights");
    if let Some(warning) = unspelt(&tokenizer) {
        description += &format!("{:<14} {warning}\n", "note");
    }
    description += &format!("{:<14} {}\n", "chat", chat(&file, &tokenizer)?);
    Ok(description)
}

fn unspelt(tokenizer: &Tokenizer) -> Option<String> {
    let bytes = tokenizer.unspelt_bytes();
    let list: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (!bytes.is_empty()).then(|| format!("no token spells the bytes {}", list.join(" ")))
}

/// Renders a chat, since some templates fail only then.
fn chat(file: &ModelFile, tokenizer: &Tokenizer) -> Result<String> {
    let Some(source) = &file.chat_template else {
        return Ok("no template: chat requests are refused".to_string());
    };
    let template = ChatTemplate::new(source, tokenizer).context("chat template")?;
    let hello = Message::new("user", "Hello");
    let segments = template.render(&[hello], &[], true).context("chat template")?;
    let tokens = tokenizer.encode_segments(&segments).context("chat template")?.len();
    Ok(format!("template works: \"Hello\" from a user is a prompt of {tokens} tokens"))
}
