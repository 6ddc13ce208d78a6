//! Options that say what guesses tokens.

use std::ffi::OsString;
use std::fmt;

use anyhow::{Context, Result, ensure};
use clap::Args;
use engine::Speculation;
use engine::budget::{Bytes, Demand};
use kernels::cpu::Cpu;
use model::draft::{DraftModel, Drafter, STEP_POSITIONS_MAX};
use model::file::ModelFile;
use model::quantization::Quantization;
use model::transformer::{Transformer, TransformerSizes};
use model::weights::Weights;

use crate::source::Source;

/// Most tokens of a draft: beside them a step computes one position at least.
const DRAFT_MAX: i64 = STEP_POSITIONS_MAX as i64 - 1;

/// What guesses next tokens, and how many. The answers are the same, token for token.
#[derive(Args, Debug, Clone)]
pub struct SpeculationArgs {
    /// Guess up to N next tokens where the last ones occurred before, in prompt or answer, and verify
    /// them in one step. Answers stay the same, token for token. It helps a few users whose answers
    /// repeat what is there (code that is edited, quotes, tables); other text neither gains nor loses much.
    /// Steps of 8 positions and more, as of 8 users, guess nothing.
    #[arg(
        long,
        value_parser = clap::value_parser!(u32).range(1..=DRAFT_MAX),
        conflicts_with = "speculative_model",
        value_name = "N"
    )]
    pub speculative_ngram: Option<u32>,

    /// Have this smaller model guess next tokens, which the model verifies in one step. It must have the
    /// same vocabulary. Answers stay the same, token for token. It helps a few users if it is many times
    /// smaller and mostly right. Its weights, activations and keys and values count in the memory.
    #[arg(long, value_name = "MODEL")]
    pub speculative_model: Option<String>,

    /// Most tokens that --speculative-model guesses for a step.
    #[arg(
        long,
        default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=DRAFT_MAX),
        requires = "speculative_model",
        value_name = "N"
    )]
    pub num_speculative_tokens: u32,
}

impl SpeculationArgs {
    /// The same options as arguments for another `millrace`.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut push = |name: &str, value: String| arguments.extend([name.into(), value.into()]);
        if let Some(tokens) = self.speculative_ngram {
            push("--speculative-ngram", tokens.to_string());
        }
        if let Some(model) = &self.speculative_model {
            push("--speculative-model", model.clone());
            push("--num-speculative-tokens", self.num_speculative_tokens.to_string());
        }
        arguments
    }

    /// Most tokens of a draft; 0 if nothing guesses.
    fn draft_tokens_max(&self) -> u32 {
        let of_model = self.speculative_model.as_ref().map(|_| self.num_speculative_tokens);
        self.speculative_ngram.or(of_model).unwrap_or(0)
    }

    /// How the engine makes room for it.
    pub fn engine(&self) -> Speculation {
        match self.draft_tokens_max() {
            0 => Speculation::OFF,
            draft_tokens_max => {
                Speculation { draft_tokens_max, step_positions_max: STEP_POSITIONS_MAX as u32 }
            }
        }
    }

    /// Most rows of a step whose logits are asked for.
    pub fn logits_rows_max(&self, max_num_seqs: u32) -> usize {
        max_num_seqs.max(self.engine().step_positions_max) as usize
    }

    /// Opens the model that guesses for `target`, if one does.
    pub fn open(
        &self,
        target: &ModelFile,
        quantization: Option<Quantization>,
    ) -> Result<Option<DraftFile>> {
        let Some(name) = &self.speculative_model else { return Ok(None) };
        let open = || -> Result<DraftFile> {
            let mut file = Source::parse(name)?.open()?;
            file.quantization = quantization;
            Weights::check(&file.config)?;
            check_vocabularies(target, &file)?;
            Ok(DraftFile(file))
        };
        open().with_context(|| format!("--speculative-model {name}")).map(Some)
    }

    /// What guesses, with the weights of `draft` if that is a model, beside a model of these sizes.
    pub fn drafter(
        &self,
        draft: Option<DraftFile>,
        target: TransformerSizes,
        cpu: &mut Cpu,
    ) -> Result<Option<Drafter>> {
        let Some(DraftFile(mut file)) = draft else {
            return Ok(self.speculative_ngram.map(|_| Drafter::PromptLookup));
        };
        let weights = Weights::load(&mut file, cpu)?;
        let sizes = DraftModel::sizes(&file.config, target);
        let model = DraftModel::new(file.config.clone(), weights, sizes, cpu);
        Ok(Some(Drafter::Model(Box::new(model))))
    }
}

/// Refuses a model whose tokens are not those of `target`: it would guess another text.
fn check_vocabularies(target: &ModelFile, draft: &ModelFile) -> Result<()> {
    let [all, own] = [target, draft].map(|file| file.config.vocab_size);
    ensure!(
        all == own,
        "its vocabulary has {own} tokens, that of --model has {all}; give a model with the same vocabulary"
    );
    let [all, own] = [target, draft].map(|file| &file.tokenizer.tokens);
    let other = all.iter().zip(own).position(|(one, other)| one != other);
    ensure!(
        other.is_none(),
        "its token {} is another one than that of --model; give a model with the same vocabulary",
        other.unwrap_or_default()
    );
    Ok(())
}

/// A model that guesses for another one, of which no weight is read yet.
pub struct DraftFile(ModelFile);

/// What a model that guesses takes beside the other one.
pub struct DraftMemory {
    weights_bytes: u64,
    activation_bytes: u64,
    block_bytes: u64,
}

impl DraftFile {
    /// Beside a model of these sizes.
    pub fn memory(&self, target: &TransformerSizes, threads: usize) -> DraftMemory {
        let config = &self.0.config;
        let sizes = DraftModel::sizes(config, *target);
        DraftMemory {
            weights_bytes: Weights::bytes_of(&self.0),
            activation_bytes: Transformer::activation_bytes(config, &sizes, threads),
            block_bytes: Transformer::block_bytes(config, &sizes) + DraftModel::BYTES_PER_BLOCK,
        }
    }
}

impl DraftMemory {
    /// Adds it to what the other model asks for.
    pub fn add_to(&self, demand: &mut Demand) {
        demand.weights_bytes += self.weights_bytes;
        demand.activation_bytes += self.activation_bytes;
        demand.block_bytes += self.block_bytes;
    }
}

impl fmt::Display for DraftMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Of this the draft model has weights {} + activations {} + {} of each KV block",
            Bytes(self.weights_bytes),
            Bytes(self.activation_bytes),
            Bytes(self.block_bytes)
        )
    }
}
