//! What every request must be answered: a loop over its own tokens alone, without engine or blocks.

use engine::{FinishReason, Request, TokenId};

use crate::device::{Digest, Origin, Script, Slot};

/// The whole answer and why it ends.
pub fn answer(request: &Request<Script>) -> (Vec<TokenId>, FinishReason) {
    let origin = (request.params.salt, request.adapter);
    let mut beginning = Beginning { origin, length: 0, last: None, digest: Digest::EMPTY };
    for &token in &request.prompt {
        beginning.push(token);
    }
    let mut answer = Vec::new();
    loop {
        let token = request.params.next_token(beginning.digest);
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
    origin: Origin,
    length: usize,
    last: Option<Slot>,
    digest: Digest,
}

impl Beginning {
    fn push(&mut self, token: TokenId) {
        let slot = Slot::after(self.last, self.origin, self.length, token);
        self.digest = self.digest.add(slot);
        self.last = Some(slot);
        self.length += 1;
    }
}
