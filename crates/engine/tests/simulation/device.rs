//! A scripted device that would notice any mistake with blocks, and guesses right and wrong.
//!
//! A slot keeps (position, token, hash of the whole beginning). The hash is made from what is
//! *read* through the block table for the position before, so a wrong block anywhere spreads. The
//! next token is a hash of the request's seed and of every slot read back. Of the request the content
//! depends on its salt and adapter alone, so sharing equal beginnings is right and sharing others is noticed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::resume_unwind;
use std::rc::Rc;

use engine::{
    AdapterId, BlockId, Device, DeviceError, Failure, RequestId, Row, RowOutput, Sampled,
    StepOutput, StepPlan, TokenId,
};

use crate::rng::{Rng, mix};

/// How a request's tokens are chosen.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    pub seed: u64,
    pub vocabulary: u32,
    /// Goes into every slot, so that sharing with another one is noticed.
    pub salt: u8,
}

impl Script {
    pub fn next_token(&self, beginning: Digest) -> TokenId {
        TokenId((mix(self.seed ^ beginning.0) % u64::from(self.vocabulary)) as u32)
    }
}

/// The hash of all slots of a beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    pub const EMPTY: Digest = Digest(1);

    pub fn add(self, slot: Slot) -> Digest {
        let tag = (u64::from(slot.position) << 32) | u64::from(slot.token.0);
        Digest(mix(self.0 ^ mix(tag) ^ slot.beginning.rotate_left(7)))
    }
}

/// What stands for the keys and values of one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    position: u32,
    token: TokenId,
    beginning: u64,
}

/// What sets equal tokens of two requests apart: the salt, and the adapter.
pub type Origin = (u8, Option<AdapterId>);

impl Slot {
    const POISON: Slot = Slot { position: u32::MAX, token: TokenId(u32::MAX), beginning: 0xdead };

    /// The right content for `token` at `position` after the slot before, or after nothing but `origin`.
    pub fn after(previous: Option<Slot>, origin: Origin, position: usize, token: TokenId) -> Slot {
        let (salt, adapter) = origin;
        let adapter = adapter.map_or(0, |adapter| 1 + u64::from(adapter.0));
        // An adapter changes what is computed of every token.
        let before = previous.map_or(7 + u64::from(salt), |slot| slot.beginning) ^ adapter << 40;
        let beginning = mix(before ^ (u64::from(token.0) + 1));
        Slot { position: position as u32, token, beginning }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub row_failure_percent: u64,
    pub device_failure_percent: u64,
    pub device_panic_percent: u64,
}

/// A row as it was asked for, kept for the checks after the step.
#[derive(Debug, Clone)]
pub struct SeenRow {
    pub id: RequestId,
    pub tokens: Vec<TokenId>,
    pub prompt_len: usize,
    pub compute: Range<usize>,
    pub draft_max: usize,
    pub blocks: Vec<BlockId>,
    /// Tokens of the draft.
    pub drafted: usize,
    /// How many tokens the device gave.
    pub given: usize,
}

pub struct DeviceState {
    block_size: usize,
    slots: Vec<Slot>,
    rng: Rng,
    pub faults: Faults,
    /// How often a token of a draft is right.
    pub right_guess_percent: u64,
    /// What goes on elsewhere during the next step.
    pub meanwhile: Option<Box<dyn FnOnce()>>,
    pub has_panicked: bool,
    pub seen: Vec<SeenRow>,
}

/// Clones share the state, so that the simulation can look in from outside.
#[derive(Clone)]
pub struct ScriptedDevice(Rc<RefCell<DeviceState>>);

impl ScriptedDevice {
    pub fn new(block_count: u32, block_size: u32, rng: Rng) -> Self {
        let slots = vec![Slot::POISON; (block_count * block_size) as usize];
        ScriptedDevice(Rc::new(RefCell::new(DeviceState {
            block_size: block_size as usize,
            slots,
            rng,
            faults: Faults::default(),
            right_guess_percent: 0,
            meanwhile: None,
            has_panicked: false,
            seen: Vec::new(),
        })))
    }

    pub fn state(&self) -> std::cell::RefMut<'_, DeviceState> {
        self.0.borrow_mut()
    }
}

impl DeviceState {
    /// Spoils a block whose content nobody may read any more.
    pub fn poison(&mut self, block: BlockId) {
        let start = block.index() * self.block_size;
        self.slots[start..start + self.block_size].fill(Slot::POISON);
    }

    fn slot_index(&self, row: &Row<'_, Script>, position: usize) -> usize {
        let block = row.blocks[position / self.block_size];
        block.index() * self.block_size + position % self.block_size
    }

    fn read(&self, row: &Row<'_, Script>, position: usize) -> Slot {
        self.read_as(row, position, row.tokens[position])
    }

    fn read_as(&self, row: &Row<'_, Script>, position: usize, token: TokenId) -> Slot {
        let slot = self.slots[self.slot_index(row, position)];
        let expected = position as u32;
        assert_eq!(
            (slot.position, slot.token),
            (expected, token),
            "{:?} reads a foreign or stale slot at position {position}",
            row.id
        );
        slot
    }

    fn digest(&self, row: &Row<'_, Script>, positions: Range<usize>) -> Digest {
        positions.fold(Digest::EMPTY, |digest, position| digest.add(self.read(row, position)))
    }

    fn write(&mut self, row: &Row<'_, Script>) {
        let mut previous = row.compute.start.checked_sub(1).map(|last| self.read(row, last));
        for position in row.compute.clone() {
            let origin = (row.params.salt, row.adapter);
            let slot = Slot::after(previous, origin, position, row.tokens[position]);
            let index = self.slot_index(row, position);
            self.slots[index] = slot;
            previous = Some(slot);
        }
    }

    fn output(&mut self, row: &Row<'_, Script>) -> RowOutput<u64> {
        if self.rng.chance(self.faults.row_failure_percent) {
            for position in row.compute.clone() {
                let index = self.slot_index(row, position);
                self.slots[index] = Slot::POISON;
            }
            return RowOutput::Failed(Failure::fault(format!("row of {:?} failed", row.id)));
        }
        if !row.sampled() {
            return RowOutput::Computed;
        }
        let draft = self.draft(row);
        let mut digest = self.digest(row, 0..row.tokens.len());
        let mut tokens = Vec::new();
        for (position, guess) in (row.tokens.len()..).zip(draft.iter().map(Some).chain([None])) {
            let token = row.params.next_token(digest);
            tokens.push(Sampled { token, extra: digest.0 });
            if guess != Some(&token) {
                break;
            }
            digest = digest.add(self.read_as(row, position, token));
        }
        RowOutput::Tokens { tokens, drafted: draft.len() }
    }

    /// Guesses some of the next tokens and writes them.
    fn draft(&mut self, row: &Row<'_, Script>) -> Vec<TokenId> {
        let mut digest = self.digest(row, 0..row.tokens.len());
        let mut last = self.read(row, row.tokens.len() - 1);
        let mut draft = Vec::new();
        for position in (row.tokens.len()..).take(self.rng.between(0, row.draft_max)) {
            let mut token = row.params.next_token(digest);
            if !self.rng.chance(self.right_guess_percent) {
                token.0 = (token.0 + 1) % row.params.vocabulary;
            }
            last = Slot::after(Some(last), (row.params.salt, row.adapter), position, token);
            digest = digest.add(last);
            let index = self.slot_index(row, position);
            self.slots[index] = last;
            draft.push(token);
        }
        draft
    }
}

impl Device for ScriptedDevice {
    type Params = Script;
    type Extra = u64;

    fn run(&mut self, plan: &StepPlan<'_, Script>) -> Result<StepOutput<u64>, DeviceError> {
        let meanwhile = self.state().meanwhile.take();
        meanwhile.expect("every step is prepared")();
        let mut state = self.state();
        state.seen = plan.rows.iter().map(seen).collect();
        check_plan(plan, state.block_size);
        let Faults { device_failure_percent, device_panic_percent, .. } = state.faults;
        if state.rng.chance(device_failure_percent) {
            return Err(DeviceError("scripted".to_owned()));
        }
        if state.rng.chance(device_panic_percent) {
            state.has_panicked = true;
            // Silently: only panics that nobody ordered are told.
            resume_unwind(Box::new("scripted panic"));
        }
        // All rows read before any row writes: what is shared was computed in an earlier step.
        for row in &plan.rows {
            state.digest(row, 0..row.compute.start);
        }
        for row in &plan.rows {
            state.write(row);
        }
        let rows: Vec<_> = plan.rows.iter().map(|row| state.output(row)).collect();
        for (seen, output) in state.seen.iter_mut().zip(&rows) {
            if let RowOutput::Tokens { tokens, drafted } = output {
                (seen.given, seen.drafted) = (tokens.len(), *drafted);
            }
        }
        Ok(StepOutput { rows })
    }
}

fn seen(row: &Row<'_, Script>) -> SeenRow {
    SeenRow {
        id: row.id,
        tokens: row.tokens.to_vec(),
        prompt_len: row.prompt_len,
        compute: row.compute.clone(),
        draft_max: row.draft_max,
        blocks: row.blocks.to_vec(),
        drafted: 0,
        given: 0,
    }
}

/// What every plan promises to every device.
fn check_plan(plan: &StepPlan<'_, Script>, block_size: usize) {
    assert!(!plan.rows.is_empty(), "a step without rows");
    let mut holders: BTreeMap<BlockId, usize> = BTreeMap::new();
    for row in &plan.rows {
        let compute = &row.compute;
        assert!(compute.start < compute.end, "{:?} computes nothing", row.id);
        assert!(compute.end <= row.tokens.len(), "{:?} computes unknown tokens", row.id);
        assert!(row.draft_max == 0 || row.sampled(), "{:?} drafts, but does not end", row.id);
        let blocks = (compute.end + row.draft_max).div_ceil(block_size);
        assert_eq!(row.blocks.len(), blocks, "{:?} has a table of another length", row.id);
        let twice = plan.rows.iter().filter(|other| other.id == row.id).count();
        assert_eq!(twice, 1, "{:?} takes part more than once", row.id);
        for block in row.blocks {
            *holders.entry(*block).or_default() += 1;
        }
    }
    for row in &plan.rows {
        for block in &row.blocks[row.compute.start / block_size..] {
            assert_eq!(holders[block], 1, "{:?} writes {block:?}, which others hold", row.id);
        }
    }
}
