//! Penalties for tokens that occurred before.

use crate::params::SamplingParams;

/// Scratch for counting tokens: two entries for each token of the vocabulary, never cleared
/// between calls. An entry counts only if its stamp is that of the current call.
#[derive(Debug, Default)]
pub struct History {
    stamp: u32,
    entries: Vec<Entry>,
    distinct: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    stamp: u32,
    in_output: u32,
}

impl History {
    /// Changes the logits of the tokens in `prompt` and `output`, each of them once.
    pub fn penalise(
        &mut self,
        logits: &mut [f32],
        params: &SamplingParams,
        prompt: &[u32],
        output: &[u32],
    ) {
        self.start(logits.len());
        for &token in output {
            self.entry(token).in_output += 1;
        }
        let repetition = params.repetition_penalty();
        if repetition != 1.0 {
            for &token in prompt {
                self.entry(token);
            }
        }
        for &token in &self.distinct {
            let count = self.entries[token as usize].in_output;
            let logit = &mut logits[token as usize];
            let repeated = if 0.0 < *logit { *logit / repetition } else { *logit * repetition };
            let mut penalised = repeated - params.frequency_penalty() * count as f32;
            if 0 < count {
                penalised -= params.presence_penalty();
            }
            // Finite logits stay finite, even the largest.
            *logit = penalised.clamp(f32::MIN, f32::MAX);
        }
    }

    fn start(&mut self, vocabulary_len: usize) {
        self.distinct.clear();
        self.stamp = self.stamp.wrapping_add(1);
        if self.entries.len() != vocabulary_len || self.stamp == 0 {
            self.entries.clear();
            self.entries.resize(vocabulary_len, Entry::default());
            self.stamp = 1;
        }
    }

    /// The entry of `token`, which from now on is among the distinct tokens of this call.
    fn entry(&mut self, token: u32) -> &mut Entry {
        let entry = &mut self.entries[token as usize];
        if entry.stamp != self.stamp {
            *entry = Entry { stamp: self.stamp, in_output: 0 };
            self.distinct.push(token);
        }
        entry
    }
}
