//! The keys of one family in a file's metadata.

use std::ops::RangeInclusive;

use super::{bad, require};
use crate::{
    architecture::Architecture,
    error::LoadError,
    gguf::{Metadata, Value},
};

/// Reads keys by what follows the family's name and a dot.
pub(super) struct Keys<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) architecture: &'static Architecture,
}

impl Keys<'_> {
    /// The key as the metadata has it.
    pub(super) fn key(&self, part: &str) -> String {
        self.architecture.key(part)
    }

    /// The key as the file has it, for messages.
    pub(super) fn full(&self, part: &str) -> String {
        self.metadata.called(&self.key(part)).to_string()
    }

    /// A text.
    pub(super) fn text(&self, part: &str) -> Result<Option<&str>, LoadError> {
        self.metadata.text(&self.key(part))
    }

    /// Refuses every key of the family that is not understood: it may change what has to be
    /// computed.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        let prefix = self.key("");
        for (key, value) in self.metadata.iter() {
            let Some(part) = key.strip_prefix(&prefix) else { continue };
            let neutral = match (part, value) {
                ("rope.scaling.type", Value::Text(kind)) => kind == "none",
                ("expert_count" | "expert_used_count", Value::Integer(_, 0)) => true,
                ("attention.sliding_window", Value::Integer(_, 0)) => true,
                ("attention.causal", Value::Bool(true)) => true,
                ("final_logit_softcapping" | "attn_logit_softcapping", Value::Float(_, cap)) => {
                    *cap == 0.0
                }
                _ => false,
            };
            if !neutral && !self.architecture.knows_key(part) {
                let (key, value) = (key.to_string(), value.to_string());
                return Err(LoadError::UnsupportedKey { key, value });
            }
        }
        Ok(())
    }

    pub(super) fn u32(&self, part: &str) -> Result<Option<u32>, LoadError> {
        self.metadata.u32(&self.key(part))
    }

    /// An integer of that range, if it is there.
    pub(super) fn number(
        &self,
        part: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, LoadError> {
        match self.u32(part)? {
            Some(value) if !range.contains(&value) => {
                Err(bad(&self.full(part), value, in_words(&range)))
            }
            value => Ok(value),
        }
    }

    /// An integer of that range.
    pub(super) fn need(&self, part: &str, range: RangeInclusive<u32>) -> Result<u32, LoadError> {
        require(self.number(part, range)?, &self.full(part))
    }

    /// A number of that range, if it is there.
    pub(super) fn float(
        &self,
        part: &str,
        range: RangeInclusive<f32>,
    ) -> Result<Option<f32>, LoadError> {
        match self.metadata.f32(&self.key(part))? {
            Some(value) if !range.contains(&value) => {
                Err(bad(&self.full(part), value, format!("{} to {:e}", range.start(), range.end())))
            }
            value => Ok(value),
        }
    }
}

pub(super) fn in_words(range: &RangeInclusive<u32>) -> String {
    format!("{} to {}", range.start(), range.end())
}
