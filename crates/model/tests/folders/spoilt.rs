//! A copy of a fixture in which something is changed.

use std::fs;
use std::path::{Path, PathBuf};

use model::file::ModelFile;
use serde_json::{Map, Value};
use tempfile::TempDir;

/// A folder of our own, as that of the fixture.
pub struct Copy {
    folder: TempDir,
}

/// A safetensors file in parts.
pub struct Weights {
    pub header: Map<String, Value>,
    pub data: Vec<u8>,
}

impl Copy {
    pub fn of(name: &str) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        let from =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families").join(name);
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        Copy { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Changes a file of JSON.
    pub fn json(&self, name: &str, change: impl FnOnce(&mut Value)) -> &Copy {
        let mut value: Value =
            serde_json::from_str(&fs::read_to_string(self.file(name)).unwrap()).unwrap();
        change(&mut value);
        fs::write(self.file(name), value.to_string()).unwrap();
        self
    }

    /// Changes settings.
    pub fn config(&self, change: impl FnOnce(&mut Value)) -> &Copy {
        self.json("config.json", change)
    }

    /// Changes a file of weights.
    pub fn weights(&self, name: &str, change: impl FnOnce(&mut Weights)) -> &Copy {
        let bytes = fs::read(self.file(name)).unwrap();
        let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let (header, data) = bytes[8..].split_at(header_bytes);
        let header = serde_json::from_slice(header).unwrap();
        let mut weights = Weights { header, data: data.to_vec() };
        change(&mut weights);
        let header = Value::Object(weights.header).to_string();
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length[..], header.as_bytes(), &weights.data].concat();
        fs::write(self.file(name), bytes).unwrap();
        self
    }

    #[track_caller]
    pub fn open(&self) -> ModelFile {
        ModelFile::open(self.path()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The refusal, which must have all of `parts`.
    #[track_caller]
    pub fn assert_refused(&self, parts: &[&str]) {
        let error = ModelFile::open(self.path()).err().map(|error| error.to_string());
        let error = error.unwrap_or_else(|| panic!("accepted, where {parts:?} is wrong"));
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    }
}

impl Weights {
    /// Adds a tensor behind the others.
    pub fn push(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        let start = self.data.len();
        self.data.extend(bytes);
        let entry = serde_json::json!({
            "dtype": dtype, "shape": shape, "data_offsets": [start, self.data.len()],
        });
        self.header.insert(name.to_string(), entry);
    }

    /// Puts all tensors one behind the other, each as `change` makes it of name, type and bytes.
    pub fn rewrite(&mut self, change: impl Fn(&str, &str, &[u8]) -> (String, Vec<u8>)) {
        let header = std::mem::take(&mut self.header);
        let data = std::mem::take(&mut self.data);
        for (name, entry) in header {
            if name == "__metadata__" {
                continue;
            }
            let number = |value: &Value| value.as_u64().unwrap() as usize;
            let offsets = &entry["data_offsets"];
            let bytes = &data[number(&offsets[0])..number(&offsets[1])];
            let (dtype, bytes) = change(&name, entry["dtype"].as_str().unwrap(), bytes);
            let shape: Vec<usize> = entry["shape"].as_array().unwrap().iter().map(number).collect();
            self.push(&name, &dtype, &shape, &bytes);
        }
    }
}
