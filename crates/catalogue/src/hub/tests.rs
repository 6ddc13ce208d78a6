//! Pulls from a hub in this process, which refuses, breaks off and lies as told.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Barrier, LazyLock};
use std::thread;
use std::time::Duration;

use mock_hub::{Asked, Fault, Host, MockHub, Storage, git_hash, sha256};

use super::api::Hub;
use super::pull::Pull;
use super::web::Web;
use super::*;
use crate::error::Error;
use crate::progress::Progress;

const REPOSITORY: &str = "org/tiny";
const FILE: &str = "tiny.gguf";
const LIMITS: Limits = Limits { files: 3, index_bytes: 200 };

/// A hub, and a cache that is empty at first.
struct Bench {
    hub: MockHub,
    folder: tempfile::TempDir,
    /// Longest wait for bytes; longer than a busy machine takes, unless a test is about it.
    patience: Duration,
    proxy: Option<ureq::Proxy>,
}

impl Bench {
    /// The hub has one repository with one large file.
    fn new() -> Self {
        let (hub, folder) = (MockHub::start(), tempfile::tempdir().unwrap());
        let bench = Self { hub, folder, patience: Duration::from_secs(60), proxy: None };
        bench.hub.add(REPOSITORY, FILE, Storage::Lfs, &model());
        bench
    }

    fn settings(&self, variables: &[(&str, &str)]) -> Settings {
        let endpoint = self.hub.endpoint();
        let cache = self.folder.path().to_str().unwrap();
        let all = [("HF_ENDPOINT", &*endpoint), ("HF_HUB_CACHE", cache)];
        let find = |name: &str| variables.iter().chain(&all).find(|(found, _)| *found == name);
        Settings::of(LIMITS, |name| find(name).map(|(_, value)| value.into())).unwrap()
    }

    fn pull_with(
        &self,
        name: &str,
        variables: &[(&str, &str)],
        say: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, Error> {
        let (settings, name) = (self.settings(variables), Name::parse(name).unwrap());
        let web = Web::with(&settings, self.patience, self.proxy.clone()).unwrap();
        let hub = Hub::with(&settings, &name, web, Duration::from_millis(1));
        Pull { name: &name, hub, cache: settings.cache(), limits: LIMITS }.run(say)
    }

    fn pull(&self, name: &str) -> Result<PathBuf, Error> {
        self.pull_with(name, &[], &mut |_| {})
    }

    #[track_caller]
    fn refused(&self, name: &str) -> String {
        self.pull(name).unwrap_err().to_string()
    }

    /// What the cache has.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let settings = self.settings(&[("HF_HUB_OFFLINE", "1")]);
        fetch(&Name::parse(name).unwrap(), &settings, &mut |_| {}).ok()
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("models--org--tiny")
    }

    /// Bytes of bodies that were sent for files, and from where on.
    fn sent(&self) -> (usize, Vec<Option<String>>) {
        let asked = self.hub.asked();
        let of_files: Vec<&Asked> = asked
            .iter()
            .filter(|asked| asked.method == "GET" && asked.host == Host::Store)
            .collect();
        let ranges = of_files.iter().map(|asked| asked.range.clone()).collect();
        (of_files.iter().map(|asked| asked.sent).sum(), ranges)
    }
}

/// Bytes of a large file; they are read and written in several pieces.
static MODEL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..600_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
});

fn model() -> Vec<u8> {
    MODEL.clone()
}

/// Names of all in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let found = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = found.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Adds a model in safetensors with two shards, and what does not belong to it.
fn add_folder(hub: &MockHub) {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let files: [(&str, Storage, &[u8]); 8] = [
        ("config.json", Storage::Git, b"{}"),
        ("tokenizer.json", Storage::Git, b""),
        ("chat_template.jinja", Storage::Git, b"hello"),
        ("model.safetensors.index.json", Storage::Git, index),
        ("model-1.safetensors", Storage::Lfs, b"one"),
        ("model-2.safetensors", Storage::Lfs, b"two"),
        ("README.md", Storage::Git, b"words"),
        ("pytorch_model.bin", Storage::Lfs, b"three"),
    ];
    files.iter().for_each(|(file, storage, bytes)| hub.add("org/shards", file, *storage, bytes));
}

mod cache;
mod connections;
mod refusals;
