//! A scripted device that would notice any mistake with blocks, and guesses right and wrong.
//!
//! A slot keeps (position, token, hash of the whole beginning and of the group of layers). The hash is made
//! from what is *read* through the group's block table for the position before, so a wrong block anywhere
//! spreads. The next token is a hash of the request's seed and of every slot read back: all in groups that
//! see everything, the last ones in those with a window. Of the request the content depends on its salt and
//! adapter alone, so sharing equal beginnings is right and sharing others is noticed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::resume_unwind;
use std::rc::Rc;

use engine::{
    AdapterId, BlockId, Device, DeviceError, EngineConfig, Failure, KvGroups, RequestId, Row,
    RowOutput, Sampled, StepOutput, StepPlan, TokenId,
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

/// The hash of all slots that a position sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    pub const EMPTY: Digest = Digest(1);

    pub fn add(self, slot: Slot) -> Digest {
        let tag = (u64::from(slot.position) << 32) | u64::from(slot.token.0);
        Digest(mix(self.0 ^ mix(tag) ^ slot.beginning.rotate_left(7)))
    }

    /// Of all groups together, in their order.
    pub fn of_groups(groups: impl Iterator<Item = Digest>) -> Digest {
        groups.fold(Digest::EMPTY, |all, group| Digest(mix(all.0 ^ group.0)))
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

    /// The right content of a group for `token` at `position` after the slot before, or after nothing that
    /// is seen but `origin`.
    pub fn after(
        previous: Option<Slot>,
        (group, origin): (usize, Origin),
        position: usize,
        token: TokenId,
    ) -> Slot {
        let (salt, adapter) = origin;
        let adapter = adapter.map_or(0, |adapter| 1 + u64::from(adapter.0));
        // An adapter changes what is computed of every token.
        let before = previous.map_or(7 + u64::from(salt), |slot| slot.beginning) ^ adapter << 40;
        let before = before ^ (group as u64) << 50;
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
    /// Of each group.
    pub blocks: Vec<Vec<BlockId>>,
    /// Tokens of the draft.
    pub drafted: usize,
    /// How many tokens the device gave.
    pub given: usize,
}

impl SeenRow {
    /// Its blocks of all groups.
    pub fn held(&self) -> impl Iterator<Item = BlockId> {
        self.held_of_first(usize::MAX)
    }

    /// Those among the first so many of each group.
    pub fn held_of_first(&self, count: usize) -> impl Iterator<Item = BlockId> {
        let blocks = self.blocks.iter().flat_map(move |blocks| blocks.iter().take(count));
        blocks.copied().filter(|&block| block != BlockId::RELEASED)
    }

    /// Whether blocks behind a window were given back.
    pub fn has_released(&self) -> bool {
        self.blocks.iter().flatten().any(|&block| block == BlockId::RELEASED)
    }
}

pub struct DeviceState {
    block_size: usize,
    groups: KvGroups,
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
    pub fn new(config: &EngineConfig, rng: Rng) -> Self {
        let slots = vec![Slot::POISON; (config.block_count * config.block_size) as usize];
        ScriptedDevice(Rc::new(RefCell::new(DeviceState {
            block_size: config.block_size as usize,
            groups: config.kv_groups,
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

    fn slot_index(&self, row: &Row<'_, Script>, group: usize, position: usize) -> usize {
        let block = row.blocks[group][position / self.block_size];
        assert_ne!(block, BlockId::RELEASED, "{:?} needs what was given back", row.id);
        block.index() * self.block_size + position % self.block_size
    }

    fn read(&self, row: &Row<'_, Script>, group: usize, (position, token): At) -> Slot {
        let slot = self.slots[self.slot_index(row, group, position)];
        let expected = position as u32;
        assert_eq!(
            (slot.position, slot.token),
            (expected, token),
            "{:?} reads a foreign or stale slot at position {position} of group {group}",
            row.id
        );
        slot
    }

    /// The first position of a group that positions from `start` on see.
    fn first_seen(&self, group: usize, start: usize) -> usize {
        first_seen(self.groups, group, start)
    }

    /// What the last of `tokens` sees.
    fn digest(&self, row: &Row<'_, Script>, tokens: &[TokenId]) -> Digest {
        Digest::of_groups((0..self.groups.count()).map(|group| {
            let seen = self.first_seen(group, tokens.len() - 1)..tokens.len();
            let at = |position| self.read(row, group, (position, tokens[position]));
            seen.map(at).fold(Digest::EMPTY, Digest::add)
        }))
    }

    /// Reads everything that is seen of what was computed before the step.
    fn read_before(&self, row: &Row<'_, Script>) {
        for group in 0..self.groups.count() {
            for position in self.first_seen(group, row.compute.start)..row.compute.start {
                self.read(row, group, (position, row.tokens[position]));
            }
        }
    }

    /// Writes what `token` at `position` is in every group, after what is read of the position before if that
    /// is seen.
    fn write(&mut self, row: &Row<'_, Script>, tokens: &[TokenId], position: usize) {
        for group in 0..self.groups.count() {
            let previous = self.first_seen(group, position)..position;
            let previous = previous.last().map(|last| self.read(row, group, (last, tokens[last])));
            let origin = (row.params.salt, row.adapter);
            let slot = Slot::after(previous, (group, origin), position, tokens[position]);
            let index = self.slot_index(row, group, position);
            self.slots[index] = slot;
        }
    }

    fn output(&mut self, row: &Row<'_, Script>) -> RowOutput<u64> {
        if self.rng.chance(self.faults.row_failure_percent) {
            for (group, position) in
                (0..self.groups.count()).flat_map(|g| row.compute.clone().map(move |p| (g, p)))
            {
                let index = self.slot_index(row, group, position);
                self.slots[index] = Slot::POISON;
            }
            return RowOutput::Failed(Failure::fault(format!("row of {:?} failed", row.id)));
        }
        if !row.sampled() {
            return RowOutput::Computed;
        }
        let drafted = self.draft(row);
        let known = row.tokens.len();
        let mut tokens = Vec::new();
        for end in known..=drafted.len() {
            let digest = self.digest(row, &drafted[..end]);
            let token = row.params.next_token(digest);
            tokens.push(Sampled { token, extra: digest.0 });
            if drafted.get(end) != Some(&token) {
                break;
            }
        }
        RowOutput::Tokens { tokens, drafted: drafted.len() - known }
    }

    /// Guesses some of the next tokens and writes them; they come behind the known ones.
    fn draft(&mut self, row: &Row<'_, Script>) -> Vec<TokenId> {
        let mut tokens = row.tokens.to_vec();
        for position in (tokens.len()..).take(self.rng.between(0, row.draft_max)) {
            let mut token = row.params.next_token(self.digest(row, &tokens));
            if !self.rng.chance(self.right_guess_percent) {
                token.0 = (token.0 + 1) % row.params.vocabulary;
            }
            tokens.push(token);
            self.write(row, &tokens, position);
        }
        tokens
    }
}

/// A position and the token that is there.
type At = (usize, TokenId);

/// The first position of a group that positions from `start` on see.
pub fn first_seen(groups: KvGroups, group: usize, start: usize) -> usize {
    if groups.is_windowed(group) { (start + 1).saturating_sub(groups.window as usize) } else { 0 }
}

impl Device for ScriptedDevice {
    type Params = Script;
    type Extra = u64;

    fn run(&mut self, plan: &StepPlan<'_, Script>) -> Result<StepOutput<u64>, DeviceError> {
        let meanwhile = self.state().meanwhile.take();
        meanwhile.expect("every step is prepared")();
        let mut state = self.state();
        state.seen = plan.rows.iter().map(seen).collect();
        check_plan(plan, (state.block_size, state.groups));
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
            state.read_before(row);
        }
        for row in &plan.rows {
            row.compute.clone().for_each(|position| state.write(row, row.tokens, position));
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
fn check_plan(plan: &StepPlan<'_, Script>, (block_size, groups): (usize, KvGroups)) {
    assert!(!plan.rows.is_empty(), "a step without rows");
    let mut holders: BTreeMap<BlockId, Vec<usize>> = BTreeMap::new();
    for row in &plan.rows {
        let compute = &row.compute;
        assert!(compute.start < compute.end, "{:?} computes nothing", row.id);
        assert!(compute.end <= row.tokens.len(), "{:?} computes unknown tokens", row.id);
        assert!(row.draft_max == 0 || row.sampled(), "{:?} drafts, but does not end", row.id);
        let twice = plan.rows.iter().filter(|other| other.id == row.id).count();
        assert_eq!(twice, 1, "{:?} takes part more than once", row.id);
        assert_eq!(row.blocks.len(), groups.count(), "{:?} lacks the table of a group", row.id);
        let count = (compute.end + row.draft_max).div_ceil(block_size);
        for (group, blocks) in row.blocks.iter().enumerate() {
            assert_eq!(blocks.len(), count, "{:?} has a table of another length", row.id);
            let behind = first_seen(groups, group, compute.start) / block_size;
            let released = blocks.iter().take_while(|block| **block == BlockId::RELEASED).count();
            assert_eq!(released, behind, "{:?} has another window in group {group}", row.id);
            for block in &blocks[released..] {
                holders.entry(*block).or_default().push(group);
            }
        }
    }
    for (block, groups) in &holders {
        assert!(groups.iter().all(|group| *group == groups[0]), "{block:?} is of several groups");
    }
    for row in &plan.rows {
        for block in row.blocks.iter().flat_map(|blocks| &blocks[row.compute.start / block_size..])
        {
            assert_eq!(holders[block].len(), 1, "{:?} writes {block:?}, which others hold", row.id);
        }
    }
}
