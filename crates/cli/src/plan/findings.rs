//! The answers, and what they rest on.

use anyhow::{Result, ensure};
use clap::Args;
use engine::budget::{BudgetError, Demand, thousands};
use plan::balance::{Balance, Limit, Turn, first_limit};
use plan::memory::{Answers, Question};
use plan::shape::Shape;

use super::engine::{Device, Engine};
use super::model::Model;

/// What is asked.
#[derive(Args)]
#[command(next_help_heading = "Questions")]
pub(super) struct QuestionArgs {
    /// Tokens that a request really has, prompt and answer together [default: --max-model-len].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "TOKENS")]
    length: Option<u32>,

    /// Users with one request each [default: --max-num-seqs].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 24), value_name = "N")]
    users: Option<u32>,
}

/// What was found, and what it rests on.
pub(super) struct Findings {
    pub(super) shape: Shape,
    pub(super) device: Device,
    pub(super) engine: Engine,
    pub(super) question: Question,
    pub(super) answers: Answers,
    /// Where steps wait; none if the device's rates are not known at all.
    pub(super) balance: Option<Balance>,
    /// What whoever reads the numbers must know, in sentences.
    pub(super) notes: Vec<String>,
}

impl Findings {
    /// Answers for a model on a device. A context that does not fit and was not asked for is cut,
    /// as `serve` does it.
    pub(super) fn new(
        model: Model,
        device: Device,
        mut engine: Engine,
        args: &QuestionArgs,
    ) -> Result<Findings> {
        let mut shape = model.shape;
        let mut notes = std::mem::take(&mut shape.notes);
        if 1 < shape.experts.count {
            notes.push(
                "A step is taken to read all experts, as one of many sequences does; one of few \
                 reads less."
                    .to_string(),
            );
        }
        let users = args.users.unwrap_or(engine.max_num_seqs);
        let ask = |demand: Demand| {
            let length = args.length.unwrap_or(demand.max_model_len);
            Question { demand, memory: engine.memory, length, users }
        };
        let mut question = ask(engine.demand);
        let mut answers = question.answers();
        if let Err(BudgetError::ModelLenTooLong { max_model_len, feasible, .. }) = answers.budget
            && !engine.is_len_given
        {
            notes.push(format!(
                "The model's context of {} tokens does not fit. This is the plan for {} tokens, \
                 the most that do; `--max-model-len` gives another length.",
                thousands(u64::from(max_model_len)),
                thousands(u64::from(feasible))
            ));
            engine.demand.max_model_len = feasible;
            question = ask(engine.demand);
            answers = question.answers();
        }
        let (length, limit) = (question.length, engine.demand.max_model_len);
        ensure!(
            length <= limit,
            "--length is {length}, more than a request may have, {limit}; lower it or raise \
             --max-model-len"
        );
        let token_bytes = engine.demand.token_bytes();
        let balance = device.hardware.as_ref();
        let balance = balance.map(|hardware| Balance::new(&shape, hardware, token_bytes, length));
        Ok(Findings { shape, device, engine, question, answers, balance, notes })
    }

    /// From how many sequences on arithmetic binds.
    pub(super) fn turn(&self) -> Turn {
        self.balance.map_or(Turn::Unknown, |balance| balance.turn())
    }

    /// What binds first.
    pub(super) fn first_limit(&self) -> Limit {
        first_limit(self.engine.max_num_seqs, self.answers.concurrency, self.turn())
    }
}
