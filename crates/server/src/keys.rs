//! Keys: who may come in, and whose requests theirs are.

use std::collections::HashMap;

use engine::Tenant;
use http::{HeaderMap, HeaderValue, Request, header};
use sha2::{Digest, Sha256};

use crate::limits::{KEY_BYTES, KEY_OWNER_BYTES, KEY_WEIGHT, KEYS};

/// Why keys cannot be used. Keys themselves are not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Something that no header could carry, or that nobody would have chosen.
    #[error(
        "a key has {bytes} bytes; give 1 to {KEY_BYTES} visible ASCII characters without spaces"
    )]
    Form {
        /// Its bytes.
        bytes: usize,
    },
    /// The same key twice.
    #[error("the key is there twice; give each once")]
    Twice,
    /// Too many.
    #[error("there are more than {KEYS} keys")]
    TooMany,
    /// A name that the log could not tell.
    #[error("`{}` is no name of an owner; give 1 to {KEY_OWNER_BYTES} of a-z, A-Z, 0-9, `.`, `_`, `-`", name.escape_default())]
    Owner {
        /// The name.
        name: String,
    },
    /// A weight out of range.
    #[error("`{}` is no weight; give 1 to {KEY_WEIGHT}", weight.escape_default())]
    Weight {
        /// What was given.
        weight: String,
    },
    /// An owner with two weights.
    #[error("{owner} has another weight on an earlier line")]
    TwoWeights {
        /// Whose.
        owner: String,
    },
    /// More on a line than belongs there.
    #[error("there is more than KEY OWNER WEIGHT")]
    Line,
    /// A file without keys would lock everybody out, or, if it counted as none, let everybody in.
    #[error("it holds no key")]
    Empty,
}

/// The keys that clients may show; without any, nobody is asked for one.
///
/// Found by their digests, however many there are. How long that takes says something of a digest at
/// most, and nobody can choose what to send by its digest.
#[derive(Clone, Default)]
pub struct Keys {
    /// Numbers of owners.
    keys: HashMap<[u8; 32], usize>,
    owners: Vec<Owner>,
}

#[derive(Clone)]
struct Owner {
    name: Option<String>,
    weight: u32,
}

/// Who sent a request: the owner of the key that it carries, if keys tell clients apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller(Option<Tenant>);

impl Caller {
    /// Who sent `request`.
    pub fn of<T>(request: &Request<T>) -> Caller {
        request.extensions().get::<Caller>().copied().unwrap_or_default()
    }

    /// Whom its requests are for: the key's owner, else whoever the request names.
    pub fn tenant_or(self, named: Tenant) -> Tenant {
        self.0.unwrap_or(named)
    }
}

impl Keys {
    /// Adds a key with an owner of its own.
    ///
    /// # Errors
    /// A key that is none, or is there already.
    pub fn add(&mut self, key: &str) -> Result<(), KeyError> {
        self.add_for(key, None, None)
    }

    /// Adds the keys of a file: a line each, `KEY`, `KEY OWNER` or `KEY OWNER WEIGHT`. Empty lines and
    /// lines that begin with `#` are passed over. Keys of one owner share.
    ///
    /// # Errors
    /// The first line that cannot be understood, counted from 1.
    pub fn add_lines(&mut self, text: &str) -> Result<(), (usize, KeyError)> {
        let before = self.keys.len();
        for (number, line) in (1..).zip(text.lines()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let added = match *words {
                [] => Ok(()),
                [first, ..] if first.starts_with('#') => Ok(()),
                [key] => self.add(key),
                [key, owner] => self.add_for(key, Some(owner), None),
                [key, owner, weight] => self.add_for(key, Some(owner), Some(weight)),
                _ => Err(KeyError::Line),
            };
            added.map_err(|error| (number, error))?;
        }
        if self.keys.len() == before { Err((1, KeyError::Empty)) } else { Ok(()) }
    }

    fn add_for(
        &mut self,
        key: &str,
        owner: Option<&str>,
        weight: Option<&str>,
    ) -> Result<(), KeyError> {
        let is_key =
            (1..=KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        if !is_key {
            return Err(KeyError::Form { bytes: key.len() });
        }
        if KEYS <= self.keys.len() {
            return Err(KeyError::TooMany);
        }
        let digest = digest(key.as_bytes());
        if self.keys.contains_key(&digest) {
            return Err(KeyError::Twice);
        }
        let owner = match owner {
            Some(name) => self.owner(name, weight)?,
            None => self.new_owner(Owner { name: None, weight: 1 }),
        };
        self.keys.insert(digest, owner);
        Ok(())
    }

    /// The number of the owner called `name`.
    fn owner(&mut self, name: &str, weight: Option<&str>) -> Result<usize, KeyError> {
        let is_name = (1..=KEY_OWNER_BYTES).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !is_name {
            return Err(KeyError::Owner { name: name.to_owned() });
        }
        let asked = weight.map(weight_of).transpose()?;
        let known = self.owners.iter().position(|owner| owner.name.as_deref() == Some(name));
        let Some(known) = known else {
            let owner = Owner { name: Some(name.to_owned()), weight: asked.unwrap_or(1) };
            return Ok(self.new_owner(owner));
        };
        if asked.is_some_and(|weight| weight != self.owners[known].weight) {
            return Err(KeyError::TwoWeights { owner: name.to_owned() });
        }
        Ok(known)
    }

    fn new_owner(&mut self, owner: Owner) -> usize {
        self.owners.push(owner);
        self.owners.len() - 1
    }

    /// Whether clients are asked for a key.
    pub fn are_asked_for(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whose key `headers` carry; none if it is nobody's.
    pub fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let owner = sent_keys(headers).find_map(|key| self.keys.get(&digest(key)));
        owner.map(|&number| {
            // One owner's keys tell nobody apart.
            let tenant = (1 < self.owners.len())
                .then(|| Tenant { id: number as u64 + 1, weight: self.owners[number].weight });
            Caller(tenant)
        })
    }
}

/// Neither keys nor what could be tried against them.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} of {} owners)", self.keys.len(), self.owners.len())
    }
}

fn weight_of(text: &str) -> Result<u32, KeyError> {
    let weight = text.parse().ok().filter(|weight| (1..=KEY_WEIGHT).contains(weight));
    weight.ok_or_else(|| KeyError::Weight { weight: text.to_owned() })
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// The keys in `Authorization: Bearer KEY`, as OpenAI's clients send it, and in `x-api-key: KEY`, as Anthropic's
/// do; some send both, and mean one of them.
fn sent_keys(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
    });
    bearer.into_iter().chain(headers.get("x-api-key").map(HeaderValue::as_bytes))
}

#[cfg(test)]
mod tests;
