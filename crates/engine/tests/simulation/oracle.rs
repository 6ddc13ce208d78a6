//! What every request must be answered: a loop over its own tokens alone, without engine or blocks.

use engine::{FinishReason, KvGroups, Request, TokenId};

use crate::device::{Digest, Origin, Script, Slot, first_seen};

/// The whole answer and why it ends, of a model with these groups of layers.
pub fn answer(request: &Request<Script>, groups: KvGroups) -> (Vec<TokenId>, FinishReason) {
    let origin = (request.params.salt, request.adapter);
    let group = |group| Group { group, origin, slots: Vec::new(), digest: Digest::EMPTY };
    let mut beginning = Beginning { groups, of_groups: (0..groups.count()).map(group).collect() };
    for &token in &request.prompt {
        beginning.push(token);
    }
    let mut answer = Vec::new();
    loop {
        let token = request.params.next_token(beginning.digest());
        beginning.push(token);
        answer.push(token);
        let may_stop = request.min_tokens as usize <= answer.len();
        if may_stop && request.stop_tokens.contains(&token) {
            return (answer, FinishReason::Stop { token });
        }
        if answer.len() == request.max_tokens as usize {
            return (answer, FinishReason::Length);
        }
    }
}

struct Beginning {
    groups: KvGroups,
    of_groups: Vec<Group>,
}

/// What the layers of one group know.
struct Group {
    group: usize,
    origin: Origin,
    slots: Vec<Slot>,
    /// Of all slots.
    digest: Digest,
}

impl Beginning {
    fn push(&mut self, token: TokenId) {
        for Group { group, origin, slots, digest } in &mut self.of_groups {
            let position = slots.len();
            let previous = slots[first_seen(self.groups, *group, position)..].last().copied();
            let slot = Slot::after(previous, (*group, *origin), position, token);
            slots.push(slot);
            *digest = digest.add(slot);
        }
    }

    /// Of what the last position sees.
    fn digest(&self) -> Digest {
        Digest::of_groups(self.of_groups.iter().map(|Group { group, slots, digest, .. }| {
            match first_seen(self.groups, *group, slots.len() - 1) {
                0 => *digest,
                first => slots[first..].iter().copied().fold(Digest::EMPTY, Digest::add),
            }
        }))
    }
}
