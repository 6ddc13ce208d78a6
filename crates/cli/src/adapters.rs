//! Adapters as the command line names them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use engine::AdapterId;
use model::config::ModelConfig;
use model::lora::{Adapter, AdapterFile};
use model::transformer::{Transformer, TransformerSizes};
use server::config::AdapterInfo;

/// Most adapters: every one is in memory.
const ADAPTERS_MAX: usize = 256;
/// Longest name of one, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// An adapter under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAdapter {
    /// What requests call it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

impl FromStr for NamedAdapter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('=').filter(|(name, path)| !name.is_empty() && !path.is_empty());
        let (name, path) = parts.ok_or("give NAME=PATH, like sql=adapters/sql")?;
        if NAME_BYTES_MAX < name.len() {
            return Err(format!("the name has {} bytes, more than {NAME_BYTES_MAX}", name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err("the name has control characters".to_owned());
        }
        Ok(NamedAdapter { name: name.to_owned(), path: path.into() })
    }
}

/// The options that name these adapters, as arguments for another `millrace`.
pub fn to_arguments(adapters: &[NamedAdapter]) -> Vec<OsString> {
    let option = |NamedAdapter { name, path }: &NamedAdapter| {
        let mut value = OsString::from(format!("{name}="));
        value.push(path);
        ["--lora".into(), value]
    };
    adapters.iter().flat_map(option).collect()
}

/// The one adapter of a command that takes one at most.
pub fn only(adapters: &[NamedAdapter]) -> Result<Option<AdapterId>> {
    let count = adapters.len();
    ensure!(count < 2, "--lora is given {count} times; this command takes one adapter");
    Ok((count == 1).then_some(AdapterId(0)))
}

/// Adapters that were checked, and whose tensors are still to be read.
pub struct Adapters(Vec<(AdapterInfo, AdapterFile)>);

impl Adapters {
    /// Checks every adapter against the model of `config`, which is served as `model`.
    pub fn open(adapters: &[NamedAdapter], config: &ModelConfig, model: &str) -> Result<Adapters> {
        let count = adapters.len();
        ensure!(count <= ADAPTERS_MAX, "--lora is given {count} times, at most {ADAPTERS_MAX} are");
        let mut files = Vec::with_capacity(count);
        for (place, NamedAdapter { name, path }) in adapters.iter().enumerate() {
            let is_other = adapters[..place].iter().any(|other| other.name == *name);
            ensure!(!is_other && name != model, "--lora {name}: something else has this name");
            let open = AdapterFile::open(path, config);
            let file =
                open.with_context(|| format!("--lora {name}: cannot load {}", path.display()))?;
            files
                .push((AdapterInfo { name: name.clone(), root: path.display().to_string() }, file));
        }
        Ok(Adapters(files))
    }

    /// What they take, with their share of a step.
    pub fn bytes(&self, config: &ModelConfig, sizes: &TransformerSizes, threads: usize) -> u64 {
        let Some(scratch) = self.0.iter().map(|(_, file)| file.scratch()).max() else { return 0 };
        let loaded: u64 = self.0.iter().map(|(_, file)| file.bytes()).sum();
        loaded + Transformer::adapted_bytes(config, sizes, threads, scratch)
    }

    /// Their names, in the order of their ids.
    pub fn infos(&self) -> Vec<AdapterInfo> {
        self.0.iter().map(|(info, _)| info.clone()).collect()
    }

    /// Reads all tensors.
    pub fn load(self) -> Result<Vec<Adapter>> {
        let load = |(info, file): (AdapterInfo, AdapterFile)| {
            file.load().with_context(|| format!("--lora {}: cannot load {}", info.name, info.root))
        };
        self.0.into_iter().map(load).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_path_are_told_apart_by_the_first_equals_sign() {
        let named: NamedAdapter = "sql=a folder/x=1".parse().unwrap();
        let expected = NamedAdapter { name: "sql".to_owned(), path: "a folder/x=1".into() };
        assert_eq!(named, expected);
        for bad in ["sql", "=path", "sql=", "a\nb=path", &format!("{}=p", "n".repeat(257))] {
            assert!(bad.parse::<NamedAdapter>().is_err(), "{bad}");
        }
    }
}
