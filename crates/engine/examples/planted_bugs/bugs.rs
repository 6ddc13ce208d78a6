//! Mistakes that the simulation must find.

/// A mistake as a change of one place of the engine's source.
pub struct Bug {
    /// What is wrong.
    pub name: &'static str,
    /// Where, below `src`.
    pub file: &'static str,
    /// The right text, which occurs once in the file.
    pub right: &'static str,
    /// The wrong text.
    pub wrong: &'static str,
}

const fn bug(
    name: &'static str,
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
) -> Bug {
    Bug { name, file, right, wrong }
}

/// All of them, from the pool outwards.
pub const BUGS: [Bug; 47] = [
    bug(
        "a block that is held stays in the free list",
        "pages.rs",
        "if self.holders(block) == 0 {\n            self.unlink",
        "if self.holders(block) == 9 {\n            self.unlink",
    ),
    bug(
        "a block is free as soon as one of two holders leaves",
        "pages.rs",
        "        *holders == 0\n",
        "        *holders <= 1\n",
    ),
    bug(
        "a prefix is found by its hash alone",
        "prefix.rs",
        "content.parent == parent && *content.tokens == *tokens",
        "content.parent == parent",
    ),
    bug(
        "a block is found whatever comes before it",
        "prefix.rs",
        "content.parent == parent && *content.tokens == *tokens",
        "*content.tokens == *tokens",
    ),
    bug(
        "what is cached is shared whatever the salt",
        "sequence.rs",
        "BlockTable::new(request.origin(), groups)",
        "BlockTable::new(\n                crate::request::Origin { adapter: request.adapter, ..Default::default() },\n                groups,\n            )",
    ),
    bug(
        "what is cached is shared whatever the adapter",
        "sequence.rs",
        "BlockTable::new(request.origin(), groups)",
        "BlockTable::new(crate::request::Origin { adapter: None, ..request.origin() }, groups)",
    ),
    bug(
        "a row does not say which adapter it takes",
        "schedule.rs",
        "adapter: sequence.adapter",
        "adapter: None",
    ),
    bug(
        "a reused block can still be found as what it was",
        "kv.rs",
        "u64::from(prefix.forget(block))",
        "u64::from(prefix.holds(block))",
    ),
    bug(
        "the first block of a shared beginning is not counted as held",
        "kv.rs",
        "for block in cached.groups.iter().flat_map(|blocks| held(blocks)) {",
        "for block in cached.groups.iter().flat_map(|blocks| held(blocks)).skip(1) {",
    ),
    bug(
        "a whole sequence may be found, so that nothing is left to compute",
        "kv.rs",
        "&tokens[..tokens.len() - 1]",
        "tokens",
    ),
    bug(
        "found blocks that are free are not counted as needed",
        "kv.rs",
        "(new + free_but_cached).min",
        "(new + 0 * free_but_cached).min",
    ),
    bug(
        "a table forgets to count from the start once it gave its blocks back",
        "kv.rs",
        "        table.published = 0;\n",
        "",
    ),
    bug(
        "a block is published before it is computed",
        "kv.rs",
        "let full = computed / self.block_size;",
        "let full = tokens.len() / self.block_size;",
    ),
    bug(
        "a block is given back while the next position still sees its last one",
        "layout.rs",
        "(computed + 1).saturating_sub(self.window as usize)",
        "(computed + 2).saturating_sub(self.window as usize)",
    ),
    bug(
        "blocks are given back as if all tokens of a draft were accepted",
        "schedule.rs",
        "release_behind_window(&mut sequence.table, computed)",
        "release_behind_window(&mut sequence.table, row.compute.end + row.draft_max)",
    ),
    bug(
        "a block behind the window stays held",
        "kv.rs",
        "                self.give_back(block);\n            }\n        }\n        table.released",
        "                let _ = block;\n            }\n        }\n        table.released",
    ),
    bug(
        "a beginning is found although a group with a window lacks a block",
        "kv.rs",
        "present = if is_present { present + 1 } else { 0 };",
        "present += usize::from(is_present || 0 < end);",
    ),
    bug(
        "of a beginning one block less is needed than its window reaches back",
        "kv.rs",
        "if end - self.layout.blocks_behind(end * self.block_size) <= present {",
        "if end - self.layout.blocks_behind(end * self.block_size) <= present + 1 {",
    ),
    bug(
        "a found block is that of another group",
        "kv.rs",
        "found.groups.iter_mut().zip(places)",
        "found.groups.iter_mut().zip(places.rev())",
    ),
    bug(
        "a group with a window is planned one block short",
        "layout.rs",
        "saturating_sub(2) / size + 1",
        "saturating_sub(2) / size",
    ),
    bug("a preempted sequence seems computed", "sequence.rs", "        self.computed = 0;\n", ""),
    bug(
        "a chunk is one position short",
        "sequence.rs",
        ".min(self.computed + budget)",
        ".min(self.computed + budget.saturating_sub(1).max(budget.min(1)))",
    ),
    bug(
        "an end token counts one token too late",
        "sequence.rs",
        "self.min_tokens <= generated",
        "self.min_tokens < generated",
    ),
    bug(
        "an answer is one token too long",
        "sequence.rs",
        "self.max_tokens <= generated",
        "self.max_tokens < generated",
    ),
    bug(
        "prompt tokens computed again are counted again",
        "sequence.rs",
        "computed.min(self.prompt_len).max(self.prompt_counted)",
        "(computed + self.prompt_counted).max(self.prompt_counted)",
    ),
    bug(
        "one request too many is taken",
        "places.rs",
        "if limit <= self.taken {",
        "if limit < self.taken {",
    ),
    bug(
        "a tenant gets one place more than its share",
        "places.rs",
        "if limit <= in_flight {",
        "if limit < in_flight {",
    ),
    bug(
        "a cancelled request keeps its blocks",
        "schedule.rs",
        "        self.kv.release(&mut sequence.table);\n        self.leave(sequence.tenant_id);\n",
        "        self.leave(sequence.tenant_id);\n",
    ),
    bug(
        "who is cancelled while it waits keeps its place",
        "schedule.rs",
        "let sequence = self.waiting.remove(index)?;\n        self.leave(sequence.tenant_id);",
        "let sequence = self.waiting.remove(index)?;",
    ),
    bug(
        "a preempted sequence goes to the end of the queue",
        "schedule.rs",
        "place.expect_err(\"no two have one rank\")",
        "self.waiting.len()",
    ),
    bug(
        "who needs a block is preempted in place of the last",
        "schedule.rs",
        "self.preempt(self.running.len() - 1);",
        "self.preempt(index);",
    ),
    bug(
        "others are admitted although somebody lost its blocks",
        "schedule.rs",
        "if self.totals.preemptions == preemptions_before {",
        "if preemptions_before <= self.totals.preemptions {",
    ),
    bug(
        "positions of running sequences do not count for the budget",
        "schedule.rs",
        "            *budget -= compute.len();\n            rows.push(PlannedRow::new(index, compute));",
        "            rows.push(PlannedRow::new(index, compute));",
    ),
    bug(
        "a tenant beyond its share gives nothing back",
        "schedule/fair.rs",
        ".filter(|_| entitled)",
        ".filter(|_| entitled && place > self.running.len() + 99)",
    ),
    bug(
        "a prompt goes before the answers of others",
        "schedule/fair.rs",
        "usize::from(index == 0)",
        "*budget",
    ),
    bug(
        "tokens behind the end are told",
        "engine.rs",
        "if end.is_some() {\n                break;\n            }",
        "",
    ),
    bug(
        "the token behind a draft counts as computed",
        "engine.rs",
        "self.advance(row, appended - 1);",
        "self.advance(row, appended.min(row.draft_max));",
    ),
    bug(
        "accepted tokens of a draft are computed again",
        "schedule.rs",
        "sequence.advance(computed);",
        "sequence.advance(row.compute.end);",
    ),
    bug(
        "rejected tokens of a draft are published",
        "schedule.rs",
        "publish(&mut sequence.table, &sequence.tokens, computed)",
        "publish(\n            &mut sequence.table,\n            &sequence.tokens,\n            (row.compute.end + row.draft_max).min(sequence.tokens.len()),\n        )",
    ),
    bug(
        "blocks of rejected tokens are kept",
        "schedule.rs",
        "        self.kv.shrink(&mut sequence.table, computed);\n",
        "",
    ),
    bug(
        "a draft may go beyond max_tokens",
        "sequence.rs",
        "self.max_tokens - self.generated() - 1",
        "self.max_tokens - self.generated()",
    ),
    bug(
        "a large step has drafts",
        "schedule/drafts.rs",
        "most.saturating_sub(positions)",
        "most.max(positions)",
    ),
    bug(
        "a cancelled request goes on",
        "worker.rs",
        "Command::Cancel { id } => self.engine.cancel(id, self.clock.now()),",
        "Command::Cancel { .. } => {}",
    ),
    bug(
        "a place at the door is never given back",
        "worker.rs",
        "            self.places.release(ended.tenant_id);\n",
        "            let _ = ended.tenant_id;\n",
    ),
    bug("a drain lets requests in", "worker.rs", "if self.draining {", "if self.stopped {"),
    bug(
        "a drain ends although requests wait",
        "worker.rs",
        "state.draining && state.in_flight.is_empty()",
        "state.draining",
    ),
    bug(
        "who comes while the device breaks gets no end",
        "worker.rs",
        "let in_flight = std::mem::take(&mut state.in_flight);",
        "let in_flight: BTreeMap<RequestId, InFlight> = BTreeMap::new();",
    ),
];
