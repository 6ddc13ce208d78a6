//! Which files of a repository make the model, by their names and the index of shards.

use std::collections::BTreeSet;

use super::name::{Name, check_path};
use crate::split::{Split, is_gguf};

/// The weights of a model that is not cut into shards.
const WHOLE: &str = "model.safetensors";
/// Which shard has which weights.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// What a model in safetensors cannot be loaded without.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// What belongs to it if it is there.
pub(super) const OPTIONAL: [&str; 3] =
    ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"];
/// Part of the name of the file that is taken among several, as llama.cpp does.
const PREFERRED: &str = "q4_k_m";
/// How the names of GGUF files begin that are no language models: projectors of images, statistics.
const OTHER_KINDS: [&str; 2] = ["mmproj", "imatrix"];
/// Most names that a message lists.
const LISTED_MAX: usize = 40;

/// What of a repository is taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// One GGUF file, or all parts of a split one in order, and among how many if it was preferred.
    Gguf { files: Vec<String>, among: Option<usize> },
    /// A folder with a model in safetensors: these files, and if [`INDEX`] is one, the shards it names.
    Folder { files: Vec<&'static str> },
}

/// Why nothing can be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// The file that was named is not there.
    #[error("it has no such file, but {has}")]
    NoFile {
        /// GGUF files that it has.
        has: String,
    },
    /// None of several files is preferred.
    #[error("it has several GGUF files; name one of them as hf:ORG/NAME:FILE: {files}")]
    Several {
        /// Which.
        files: String,
    },
    /// What it has cannot be loaded.
    #[error("{0}")]
    Nothing(String),
}

/// Chooses among the paths of all files of a repository, which have been checked. Weights are taken in at most
/// so many files.
pub(super) fn choose(name: &Name, files: &[String], files_max: usize) -> Result<Choice, Unfit> {
    let has = |file: &str| files.iter().any(|found| found == file);
    let ggufs: Vec<&String> = files.iter().filter(|file| is_model_gguf(file)).collect();
    if let Some(file) = name.file() {
        return match has(file) {
            true => Ok(Choice::Gguf { files: whole(file, files, files_max)?, among: None }),
            false => Err(Unfit::NoFile { has: listed(&ggufs) }),
        };
    }
    let weights = [WHOLE, INDEX].into_iter().find(|file| has(file));
    let missing: Vec<&str> = REQUIRED.into_iter().filter(|file| !has(file)).collect();
    if let Some(weights) = weights.filter(|_| missing.is_empty()) {
        let optional = OPTIONAL.into_iter().filter(|file| has(file));
        return Ok(Choice::Folder {
            files: REQUIRED.into_iter().chain(optional).chain([weights]).collect(),
        });
    }
    if ggufs.is_empty() {
        return Err(Unfit::Nothing(match weights {
            Some(weights) => format!("it has {weights}, but no {}", missing.join(" and no ")),
            None => format!("it has neither {WHOLE} nor {INDEX} nor a .gguf file"),
        }));
    }
    choose_gguf(&ggufs, files, files_max)
}

/// All parts of a file, of which all must be there; of one that is not split, itself.
fn whole(file: &str, files: &[String], files_max: usize) -> Result<Vec<String>, Unfit> {
    let Some(split) = Split::of(file) else { return Ok(vec![file.to_owned()]) };
    if files_max < split.count {
        let count = split.count;
        return Err(Unfit::Nothing(format!(
            "{file} is one of {count}, and at most {files_max} are read"
        )));
    }
    let has = |part: &String| files.contains(part);
    let parts = (1..=split.count).map(|number| split.path(number));
    let part = |part| match has(&part) {
        true => Ok(part),
        false => Err(Unfit::Nothing(format!("of {file} and its other parts it lacks {part}"))),
    };
    parts.map(part).collect()
}

fn choose_gguf(ggufs: &[&String], files: &[String], files_max: usize) -> Result<Choice, Unfit> {
    let named: Vec<&String> = ggufs.iter().copied().filter(|file| Split::is_first(file)).collect();
    let is_preferred = |file: &&&String| file.to_ascii_lowercase().contains(PREFERRED);
    let preferred: Vec<&&String> = named.iter().filter(is_preferred).collect();
    let (file, among) = match (&named[..], &preferred[..]) {
        ([], _) => {
            let parts = listed(ggufs);
            return Err(Unfit::Nothing(format!(
                "it has no first part of a GGUF file, but {parts}"
            )));
        }
        ([file], _) => (file, None),
        (_, [file]) => (*file, Some(named.len())),
        _ => return Err(Unfit::Several { files: listed(&named) }),
    };
    Ok(Choice::Gguf { files: whole(file, files, files_max)?, among })
}

/// Whether a file is named as one with a language model in GGUF.
pub(super) fn is_model_gguf(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    is_gguf(&file) && !OTHER_KINDS.iter().any(|kind| file.starts_with(kind))
}

fn listed(files: &[&String]) -> String {
    let mut names: Vec<&str> = files.iter().take(LISTED_MAX).map(|file| file.as_str()).collect();
    match files.len() {
        0 => names.push("no GGUF files"),
        all if LISTED_MAX < all => names.push("…"),
        _ => {}
    }
    names.join(", ")
}

/// The paths of the shards that an index names, each once.
///
/// Error: the text is no such index, or it names what cannot be a file of the repository.
pub(super) fn shards(index: &[u8], files_max: usize) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        /// By the names of tensors.
        weight_map: std::collections::HashMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if files_max < shards.len() {
        return Err(format!("it names {} files, and at most {files_max} are read", shards.len()));
    }
    for shard in &shards {
        check_path(shard)?;
        if shard.contains('/') || !shard.ends_with(".safetensors") {
            return Err(format!("`{}` is no .safetensors file beside it", shard.escape_debug()));
        }
    }
    Ok(shards.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES_MAX: usize = 3;

    fn chosen(name: &str, files: &[&str]) -> Result<Choice, String> {
        let files: Vec<String> = files.iter().map(|file| file.to_string()).collect();
        choose(&Name::parse(name).unwrap(), &files, FILES_MAX).map_err(|unfit| unfit.to_string())
    }

    fn gguf(file: &str, among: Option<usize>) -> Result<Choice, String> {
        Ok(Choice::Gguf { files: vec![file.to_owned()], among })
    }

    #[test]
    fn a_folder_is_what_loading_it_takes_and_nothing_else() {
        let all = [
            ".gitattributes",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "generation_config.json",
            "model.safetensors",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "x.gguf",
        ];
        let files = vec![
            "config.json",
            "tokenizer.json",
            "generation_config.json",
            "tokenizer_config.json",
            "model.safetensors",
        ];
        assert_eq!(chosen("a/b", &all), Ok(Choice::Folder { files }));
        let sharded = ["config.json", "model-00001-of-00002.safetensors", INDEX, "tokenizer.json"];
        let files = vec!["config.json", "tokenizer.json", INDEX];
        assert_eq!(chosen("a/b", &sharded), Ok(Choice::Folder { files }));
    }

    #[test]
    fn of_gguf_files_it_is_the_only_one_or_the_preferred_or_the_one_named() {
        assert_eq!(
            chosen("a/b", &["mmproj-x.gguf", "x.gguf", "config.json"]),
            gguf("x.gguf", None)
        );
        let several = ["x-Q4_K_M.gguf", "x-Q8_0.gguf", "x-Q6_K-00001-of-00002.gguf"];
        assert_eq!(chosen("a/b", &several), gguf("x-Q4_K_M.gguf", Some(3)));
        assert_eq!(chosen("a/b:x-Q8_0.gguf", &several), gguf("x-Q8_0.gguf", None));
        let said = chosen("a/b", &["x-Q8_0.gguf", "x-F16.gguf"]).unwrap_err();
        assert!(said.contains("x-Q8_0.gguf, x-F16.gguf") && said.contains(":FILE"), "{said}");
        let said = chosen("a/b:y.gguf", &several).unwrap_err();
        assert!(said.contains("x-Q8_0.gguf"), "{said}");
    }

    #[test]
    fn of_a_split_file_all_parts_are_taken() {
        let parts = ["x-00002-of-00002.gguf", "x-00001-of-00002.gguf"];
        let files = vec![parts[1].to_owned(), parts[0].to_owned()];
        let all = Ok(Choice::Gguf { files, among: None });
        assert_eq!(chosen("a/b", &parts), all);
        assert_eq!(chosen("a/b:x-00001-of-00002.gguf", &parts), all);
        let said = chosen("a/b", &parts[1..]).unwrap_err();
        assert!(said.contains("it lacks x-00002-of-00002.gguf"), "{said}");
        let said = chosen("a/b", &["x-00001-of-00004.gguf"]).unwrap_err();
        assert!(said.contains("one of 4, and at most 3 are read"), "{said}");
        let said = chosen("a/b", &["x-00001-of-00003.gguf"]).unwrap_err();
        assert!(said.contains("it lacks x-00002-of-00003.gguf"), "{said}");
        let said = chosen("a/b", &parts[..1]).unwrap_err();
        assert!(said.contains("no first part") && said.contains(parts[0]), "{said}");
    }

    #[test]
    fn what_cannot_be_loaded_is_refused_before_it_is_fetched() {
        let said =
            chosen("a/b", &["model.safetensors", "config.json", "tokenizer.model"]).unwrap_err();
        assert!(said.contains("no tokenizer.json"), "{said}");
        let said = chosen("a/b", &["pytorch_model.bin", "config.json"]).unwrap_err();
        assert!(said.contains("neither model.safetensors"), "{said}");
        let many: Vec<String> = (0..1000).map(|i| format!("{i}.gguf")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(chosen("a/b", &many).unwrap_err().len() < 1000);
    }

    #[test]
    fn an_index_names_each_shard_once_and_nothing_outside() {
        let index = |map: &str| {
            shards(format!(r#"{{"metadata": {{}}, "weight_map": {map}}}"#).as_bytes(), FILES_MAX)
        };
        let two = r#"{"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}"#;
        assert_eq!(index(two).unwrap(), ["m-1.safetensors", "m-2.safetensors"]);
        for bad in [
            r#"{"a": "../m.safetensors"}"#,
            r#"{"a": "/m.safetensors"}"#,
            r#"{"a": "m.bin"}"#,
            r#"{"a": "sub/m.safetensors"}"#,
            "[]",
        ] {
            assert!(index(bad).is_err(), "{bad}");
        }
        assert!(shards(b"no index", FILES_MAX).is_err());
        let map =
            |count| (0..count).map(|i| format!(r#""{i}": "{i}.safetensors""#)).collect::<Vec<_>>();
        let of = |count| index(&format!("{{{}}}", map(count).join(",")));
        assert_eq!(of(3).unwrap().len(), 3);
        assert_eq!(of(4).unwrap_err(), "it names 4 files, and at most 3 are read");
    }
}
