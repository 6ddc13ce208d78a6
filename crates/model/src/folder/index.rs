//! What says in which of several files each tensor is: `model.safetensors.index.json`.
//!
//! The sum of tensors over all files is bounded here: a file may only have what the index says.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Seek};
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::error::LoadError;
use crate::limits::FILES_MAX;
use crate::safetensors::Safetensors;

/// The file's name.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Most tensors of a model; the largest in use have some 150,000.
const TENSORS_MAX: usize = 1 << 18;

/// The file of each tensor.
pub(super) struct Index {
    places: BTreeMap<String, String>,
}

/// The file, as far as it is read.
#[derive(serde::Deserialize)]
struct Described {
    weight_map: Places,
}

struct Places(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Places;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors' names with the names of their files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Places, A::Error> {
                let mut places = BTreeMap::new();
                while let Some((tensor, file)) = map.next_entry()? {
                    if places.len() == TENSORS_MAX {
                        return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
                    }
                    places.insert(tensor, file);
                }
                Ok(Places(places))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Index {
    /// Reads the text of an index.
    pub(super) fn parse(text: &str) -> Result<Index, LoadError> {
        let described: Described = serde_json::from_str(text)
            .map_err(|cause| LoadError::Json { place: INDEX.to_string(), cause })?;
        let Places(places) = described.weight_map;
        Ok(Index { places })
    }

    /// The files' names in their order, each with the number of its tensors.
    pub(super) fn files(&self) -> Result<BTreeMap<&str, usize>, LoadError> {
        let mut files = BTreeMap::new();
        for file in self.places.values() {
            *files.entry(file.as_str()).or_default() += 1;
        }
        if files.is_empty() {
            return Err(unfit(
                ": `weight_map`",
                "empty",
                "the tensors with the names of their files",
            ));
        }
        if FILES_MAX < files.len() {
            let (found, limit) = (files.len() as u64, FILES_MAX as u64);
            return Err(LoadError::TooMany { place: format!("{INDEX}: files"), found, limit });
        }
        files.keys().try_for_each(|name| check_plain(name))?;
        Ok(files)
    }

    /// Refuses the file `name` if it has other tensors than the `count` that the index says.
    pub(super) fn check<R: Read + Seek>(
        &self,
        (name, count): (&str, usize),
        file: &Safetensors<R>,
    ) -> Result<(), LoadError> {
        let mut found = 0;
        for (tensor, _) in file.tensors() {
            let place = self.places.get(tensor);
            if place.is_none_or(|place| place != name) {
                let place = place.map_or("no file".to_string(), |other| format!("`{other}`"));
                return Err(LoadError::Unfit {
                    place: format!("{name}: tensor `{tensor}`"),
                    found: format!("in {place} by the index"),
                    expected: format!("`{name}`, where it is; fetch index and files anew"),
                });
            }
            found += 1;
        }
        if found == count {
            return Ok(());
        }
        let mut said = self.places.iter().filter(|(_, place)| *place == name);
        let missing = said.find(|(tensor, _)| file.tensor(tensor).is_none());
        let (tensor, _) = missing.expect("the file has fewer tensors than the index says");
        Err(unfit(
            &format!(": tensor `{tensor}`"),
            &format!("said to be in `{name}`"),
            "a file that has it; fetch index and files anew",
        ))
    }
}

/// A shard is a file beside the index, not a path.
fn check_plain(name: &str) -> Result<(), LoadError> {
    let is_plain = Path::new(name).file_name().is_some_and(|file| file == name)
        && !name.contains(['/', '\\', '\0'])
        && name.ends_with(".safetensors");
    if is_plain {
        return Ok(());
    }
    let found = format!("the file `{}`", name.escape_debug());
    Err(unfit(": `weight_map`", &found, "the name of a .safetensors file in the same folder"))
}

fn unfit(part: &str, found: &str, expected: &str) -> LoadError {
    LoadError::Unfit {
        place: format!("{INDEX}{part}"),
        found: found.to_string(),
        expected: expected.to_string(),
    }
}
