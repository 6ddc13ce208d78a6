//! What guesses next tokens, as the options say.

use std::fmt;

use anyhow::{Context, Result, ensure};
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
pub const DRAFT_MAX: i64 = STEP_POSITIONS_MAX as i64 - 1;

/// What guesses next tokens, and how many of them for a step at most.
#[derive(Debug, Clone, Copy)]
pub enum Speculating<'a> {
    /// Nothing.
    Nothing,
    /// The text itself.
    Lookup {
        /// How many.
        tokens: u32,
    },
    /// A model.
    Model {
        /// As `--speculative-model` has it.
        name: &'a str,
        /// How many.
        tokens: u32,
    },
}

impl Speculating<'_> {
    /// Whether nothing guesses.
    pub fn is_off(self) -> bool {
        matches!(self, Speculating::Nothing)
    }

    /// How the engine makes room for it.
    pub fn engine(self) -> Speculation {
        match self {
            Speculating::Nothing => Speculation::OFF,
            Speculating::Lookup { tokens } | Speculating::Model { tokens, .. } => Speculation {
                draft_tokens_max: tokens,
                step_positions_max: STEP_POSITIONS_MAX as u32,
            },
        }
    }

    /// Most rows of a step whose logits are asked for.
    pub fn logits_rows_max(self, max_num_seqs: u32) -> usize {
        max_num_seqs.max(self.engine().step_positions_max) as usize
    }

    /// Opens the model that guesses for `target`, if one does.
    pub fn open(
        self,
        target: &ModelFile,
        quantization: Option<Quantization>,
    ) -> Result<Option<DraftFile>> {
        let Speculating::Model { name, .. } = self else { return Ok(None) };
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
        self,
        draft: Option<DraftFile>,
        target: TransformerSizes,
        cpu: &mut Cpu,
    ) -> Result<Option<Drafter>> {
        let Some(DraftFile(mut file)) = draft else {
            let looks_up = matches!(self, Speculating::Lookup { .. });
            return Ok(looks_up.then_some(Drafter::PromptLookup));
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
