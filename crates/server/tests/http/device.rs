//! A device without weights: what a request generates is written in its prompt.
//!
//! Greedy: the prompt over and over, token by token, where `$` stands for the end token, `!` fails
//! the request and `#` breaks the whole device; `^` has no log-probabilities, though they are asked for; where a grammar forbids that, the first token that it
//! allows; with an adapter each letter is the one behind it, or two behind it, and so on. Sampled: letters that depend on seed and position. Rules for single tokens work as on logits
//! of which that of the scripted token is 50 and every other one 0.

use std::sync::mpsc::{Receiver, Sender, channel};

use engine::{Device, DeviceError, Failure, Row, RowOutput, StepOutput, StepPlan, TokenId};
use grammar::Guided;
use sampling::{Context, LogProbs, Pool, Sampler, SamplingParams};
use server::Extra;

use crate::vocabulary::{END, LEN};

/// The scripted device.
pub struct Script {
    gate: Option<Receiver<()>>,
}

/// Lets steps of a gated device happen; once it is dropped they happen freely.
pub struct Gate(Sender<()>);

impl Gate {
    /// Allows `steps` more steps.
    pub fn allow(&self, steps: usize) {
        for _ in 0..steps {
            // The device is gone once the engine has stopped.
            let _ = self.0.send(());
        }
    }
}

impl Script {
    /// A device that runs freely.
    pub fn free() -> Self {
        Script { gate: None }
    }

    /// A device that waits for its gate before each step.
    pub fn gated() -> (Self, Gate) {
        let (sender, receiver) = channel();
        (Script { gate: Some(receiver) }, Gate(sender))
    }
}

impl Device for Script {
    type Params = Guided<SamplingParams>;
    type Extra = Extra;

    fn run(&mut self, plan: &StepPlan<'_, Self::Params>) -> Result<StepOutput<Extra>, DeviceError> {
        if let Some(gate) = &self.gate {
            // An error means that the gate is gone and the way is free.
            let _ = gate.recv();
        }
        let rows = plan.rows.iter().map(next).collect::<Result<_, _>>()?;
        Ok(StepOutput { rows })
    }
}

/// The state of a position: its token, its position, and 1.
fn add_states(row: &Row<'_, Guided<SamplingParams>>, pool: &Pool) -> RowOutput<Extra> {
    for position in row.compute.clone() {
        if pool.wants(position, row.prompt_len) {
            let token = row.tokens[position].0 as f32;
            pool.add(position, &[token, position as f32, 1.0]);
        }
    }
    match row.sampled() {
        false => RowOutput::Computed,
        true if row.tokens[0].0 == u32::from(b'!') => {
            RowOutput::Failed(Failure::fault("a number of the vector is not finite"))
        }
        true => RowOutput::token(TokenId(0), Default::default()),
    }
}

fn next(row: &Row<'_, Guided<SamplingParams>>) -> Result<RowOutput<Extra>, DeviceError> {
    if let Some(pool) = row.params.sampling.pool() {
        return Ok(add_states(row, pool));
    }
    if let Some(scores) = row.params.sampling.prompt_scores() {
        let wanted = row.compute.clone().filter(|position| scores.wants(*position));
        let told = wanted.filter(|position| row.tokens[position + 1].0 != u32::from(b'^'));
        for position in told {
            let token = row.tokens[position + 1].0;
            scores.set(position, log_probs(token, position, scores.count()));
        }
    }
    if !row.sampled() {
        return Ok(RowOutput::Computed);
    }
    let generated = row.tokens.len() - row.prompt_len;
    let token = if row.params.sampling.is_greedy() {
        match row.tokens[generated % row.prompt_len].0 {
            token if token == u32::from(b'$') => END,
            token if token == u32::from(b'!') => {
                return Ok(RowOutput::Failed(Failure::fault("the logits are not finite")));
            }
            token if token == u32::from(b'#') => {
                return Err(DeviceError("the script says so".to_owned()));
            }
            token => token + row.adapter.map_or(0, |adapter| adapter.0 + 1),
        }
    } else {
        let mixed =
            (row.params.sampling.seed() ^ generated as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        u32::from(b'a') + (mixed >> 32) as u32 % 26
    };
    let token = match row.params.sampling.has_token_rules() {
        true => ruled(row, token),
        false => allowed(row, token),
    };
    let token = match token {
        Ok(token) => token,
        Err(message) => return Ok(RowOutput::Failed(Failure::no_token(message))),
    };
    let scores = row.params.sampling.log_probs();
    let extra = scores.map(|count| Box::new(log_probs(token, generated, count)));
    Ok(RowOutput::token(TokenId(token), extra))
}

/// Of a token of a prompt `generated` is the position before it. The token is the second likeliest, after the byte 255; then follow the ids from 0 on.
fn log_probs(token: u32, generated: usize, count: u32) -> LogProbs {
    let own = -1.0 - generated as f32;
    let others = (0..).map(|id| (id, own - 1.0 - id as f32));
    let top = [(255, own + 0.5), (token, own)].into_iter().chain(others);
    LogProbs { token: own, rank: 2, top: top.take(count as usize).collect() }
}

/// What is chosen where `token` has the logit 50 and every other one 0.
fn ruled(row: &Row<'_, Guided<SamplingParams>>, token: u32) -> Result<u32, String> {
    let tokens: Vec<u32> = row.tokens.iter().map(|token| token.0).collect();
    let Guided { sampling, constraint } = row.params;
    let (prompt_len, answer) = (row.prompt_len, &tokens[row.prompt_len..]);
    let set = constraint.as_ref().map(|constraint| constraint.allowed_after(answer)).transpose();
    let set = set.map_err(|error| error.to_string())?;
    let allowed = set.as_ref().map(|set| set.words());
    let mut logits = vec![0.0; LEN as usize];
    logits[token as usize] = 50.0;
    let context = Context { tokens: &tokens, prompt_len, allowed };
    Sampler::new().sample(&mut logits, sampling, &context).map_err(|error| error.to_string())
}

/// `token` if the row's grammar allows it, else the first that it allows.
fn allowed(row: &Row<'_, Guided<SamplingParams>>, token: u32) -> Result<u32, String> {
    let Some(constraint) = &row.params.constraint else { return Ok(token) };
    let answer: Vec<u32> = row.tokens[row.prompt_len..].iter().map(|token| token.0).collect();
    let set = constraint.allowed_after(&answer).map_err(|error| error.to_string())?;
    let first = (0..LEN).find(|token| set.contains(*token)).expect("a set is not empty");
    Ok(if set.contains(token) { token } else { first })
}
