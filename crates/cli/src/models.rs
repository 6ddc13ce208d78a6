//! `millrace models`.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use catalogue::hub::{self, Cached};
use catalogue::{Entry, Split, is_gguf};
use clap::{Args, FromArgMatches};
use engine::budget::{Budget, BudgetError, Bytes, Demand, thousands};
use model::file::ModelFile;
use model::gguf::tensor_kind_name;
use serde_json::{Value, json};

use crate::buffers::Connections;
use crate::errors;
use crate::launch::{EngineArgs, Requirements};
use crate::machine::{self, MachineMemory};
use crate::source::hub_settings;

/// Shown where something is not known.
const UNKNOWN: &str = "-";
/// Said of a file that cannot be named on a command line of text.
const NO_TEXT: &str = "its path is no UTF-8, as what `--model` names must be: rename it";

/// Options of `millrace models`.
#[derive(Args)]
pub struct ModelsArgs {
    /// Print the list as JSON for programs: sizes in bytes, what is not known is null.
    #[arg(long)]
    json: bool,
}

/// A model of the catalogue, a file of the cache folder, or a model in the hub's cache.
struct Listed {
    /// What `--model` takes: a name of the catalogue or the hub, or a path.
    name: String,
    entry: Option<&'static Entry>,
    /// The file, if it is there.
    present: Option<Present>,
}

/// A file of the cache folder, or a file or folder of the hub's cache.
struct Present {
    path: PathBuf,
    /// Length of all that is loaded of it.
    bytes: u64,
    /// What its header says, or why it cannot be served.
    header: Result<Header, String>,
}

/// What a file's header says, and what that comes to on this machine.
struct Header {
    /// Those with the most bytes first.
    weight_types: Vec<&'static str>,
    context: u32,
    /// What `serve` asks for without options, for the model's whole context.
    demand: Demand,
    fit: Fit,
}

/// What `serve` would do here without options, if no other program used memory.
enum Fit {
    /// Serve the whole context.
    Whole,
    /// Serve so many tokens at most.
    Shorter(u32),
    /// Refuse to start.
    Not(String),
}

/// The cache that all clients of the hub share.
struct HubCache {
    path: PathBuf,
    /// What can be served of it.
    served: Vec<Listed>,
    /// Names of what cannot: other programs keep theirs there too.
    others: Vec<String>,
}

/// Lists the catalogue, then what else is in the cache folder, then what of the hub's cache can be served.
/// Why the hub's cache cannot be listed is said in its place.
pub fn run(args: &ModelsArgs) -> Result<ExitCode> {
    let cache = catalogue::cache_dir()?;
    let machine = machine::memory()?;
    // What other programs use changes all the time; the machine stays.
    let machine = MachineMemory { available_bytes: machine.total_bytes, ..machine };
    let options = serve_options();
    let mut list = list(&cache, &options, machine)?;
    let mut of_hub = HubCache::read(&options, machine).map_err(|error| errors::line(&error));
    list.extend(of_hub.iter_mut().flat_map(|of_hub| std::mem::take(&mut of_hub.served)));
    let text = if args.json {
        let value = json!({
            "cache": cache.to_str(),
            "hub_cache": of_hub.as_ref().map(|of_hub| of_hub.path.to_str()).ok(),
            "hub_cache_others": of_hub.as_ref().map_or(&[][..], |of_hub| &of_hub.others),
            "hub_cache_error": of_hub.as_ref().err(),
            "memory_bytes": machine.total_bytes,
            "memory_utilization": options.memory_utilization,
            "models": list.iter().map(value).collect::<Vec<_>>(),
        });
        serde_json::to_string_pretty(&value).expect("text and numbers are always JSON") + "\n"
    } else {
        let limit = Bytes((machine.total_bytes as f64 * options.memory_utilization) as u64);
        format!(
            "{}\nMEMORY is what `millrace serve` takes for one request of the whole context. By \
             itself it uses up to {limit} of this machine's {}.\nFiles are kept in {}.\n{}\n",
            table(&list),
            Bytes(machine.total_bytes),
            cache.display(),
            said_of(&of_hub)
        )
    };
    write!(std::io::stdout(), "{text}").context("cannot write the list")?;
    Ok(ExitCode::SUCCESS)
}

/// The options of `serve` when none is given.
fn serve_options() -> EngineArgs {
    let line = EngineArgs::augment_args(clap::Command::new("serve"));
    let parsed = line.try_get_matches_from(["serve"]);
    parsed
        .and_then(|matches| EngineArgs::from_arg_matches(&matches))
        .expect("no option of `serve` must be given")
}

fn list(cache: &Path, options: &EngineArgs, machine: MachineMemory) -> Result<Vec<Listed>> {
    let present = |path: PathBuf| {
        let bytes = files_of(&path).into_iter().filter_map(|file| fs::metadata(file).ok());
        let bytes = bytes.map(|found| found.len()).sum();
        match path.to_str() {
            Some(_) => Present::new(path, bytes, options, machine),
            None => Present { path, bytes, header: Err(NO_TEXT.to_owned()) },
        }
    };
    let entries = catalogue::ENTRIES.iter().map(|entry| Listed {
        name: entry.name.to_owned(),
        entry: Some(entry),
        present: catalogue::is_in(cache, entry).then(|| present(cache.join(entry.file))),
    });
    let others = other_files(cache)?.into_iter().map(|path| Listed {
        name: path.display().to_string(),
        entry: None,
        present: Some(present(path)),
    });
    Ok(entries.chain(others).collect())
}

impl HubCache {
    /// Error: a variable about the hub has a value that cannot be used, or the folder cannot be read.
    fn read(options: &EngineArgs, machine: MachineMemory) -> Result<HubCache> {
        let settings = hub_settings()?;
        let path = settings.cache().to_owned();
        Ok(HubCache::of(path, hub::cached(&settings)?, options, machine))
    }

    fn of(
        path: PathBuf,
        cached: Vec<Cached>,
        options: &EngineArgs,
        machine: MachineMemory,
    ) -> HubCache {
        let mut of_hub = HubCache { path, served: Vec::new(), others: Vec::new() };
        for Cached { name, path, bytes } in cached {
            let (name, present) = (name.to_string(), Present::new(path, bytes, options, machine));
            match present.header {
                Ok(_) => of_hub.served.push(Listed { name, entry: None, present: Some(present) }),
                Err(_) => of_hub.others.push(name),
            }
        }
        of_hub
    }
}

/// What the table says of the hub's cache: where it is, and of models that are left out.
fn said_of(of_hub: &Result<HubCache, String>) -> String {
    let HubCache { path, others, .. } = match of_hub {
        Ok(of_hub) => of_hub,
        Err(error) => return format!("Models of the hub are not listed: {error}."),
    };
    let others = match &**others {
        [] => String::new(),
        [first, ..] => format!(
            " {} of other kinds there {} not listed; `millrace check {first}` says why.",
            others.len(),
            if others.len() == 1 { "is" } else { "are" }
        ),
    };
    format!("Models of the hub are kept in {}.{others}", path.display())
}

/// All files of the model at a path: itself, or all parts of a split one.
fn files_of(path: &Path) -> Vec<PathBuf> {
    match path.file_name().and_then(OsStr::to_str).and_then(Split::of) {
        None => vec![path.to_owned()],
        Some(split) => {
            (1..=split.count).map(|number| path.with_file_name(split.path(number))).collect()
        }
    }
}

/// Model files in the cache folder that are not the catalogue's, sorted; of a split one its first part.
fn other_files(cache: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read {}", cache.display());
    let found = match fs::read_dir(cache) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(context),
    };
    let mut paths = Vec::new();
    for found in found {
        let path = found.with_context(context)?.path();
        let is_of_catalogue =
            catalogue::ENTRIES.iter().any(|entry| path.file_name() == Some(entry.file.as_ref()));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_model = is_gguf(&name) && Split::is_first(&name);
        if is_model && !is_of_catalogue && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl Present {
    fn new(path: PathBuf, bytes: u64, options: &EngineArgs, machine: MachineMemory) -> Present {
        let header = Header::read(&path, options, machine).map_err(|error| errors::line(&error));
        Present { path, bytes, header }
    }
}

impl Header {
    fn read(path: &Path, options: &EngineArgs, machine: MachineMemory) -> Result<Header> {
        let file = ModelFile::open(path)?;
        let Requirements { demand, memory, .. } =
            Requirements::new(options, &file, machine, Connections::USUAL)?;
        let fit = match Budget::new(demand, memory) {
            Ok(_) => Fit::Whole,
            Err(BudgetError::ModelLenTooLong { feasible, .. }) => Fit::Shorter(feasible),
            Err(error) => Fit::Not(error.to_string()),
        };
        Ok(Header { weight_types: weight_types(&file), context: demand.max_model_len, demand, fit })
    }

    /// Keys and values of one request of the whole context.
    fn kv_bytes(&self) -> u64 {
        self.demand.kv_bytes_of(self.demand.max_model_len)
    }

    /// All that `serve` takes for one such request.
    fn memory_bytes(&self) -> u64 {
        let Demand { weights_bytes, activation_bytes, buffer_bytes, .. } = self.demand;
        let terms = [weights_bytes, activation_bytes, buffer_bytes, self.kv_bytes()];
        terms.into_iter().fold(0, u64::saturating_add)
    }
}

/// The types of a file's tensors, those with the most bytes first.
fn weight_types(file: &ModelFile) -> Vec<&'static str> {
    let mut types: Vec<(&'static str, u64)> = Vec::new();
    for tensor in file.tensors() {
        let name = tensor_kind_name(tensor.kind);
        match types.iter_mut().find(|found| found.0 == name) {
            Some((_, bytes)) => *bytes += tensor.size,
            None => types.push((name, tensor.size)),
        }
    }
    types.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    types.into_iter().map(|(name, _)| name).collect()
}

impl Listed {
    /// What the file's header says, if the file is there and can be served.
    fn header(&self) -> Option<&Header> {
        self.present.as_ref()?.header.as_ref().ok()
    }

    /// From the file, or else from the catalogue.
    fn weight_types(&self) -> Option<&[&'static str]> {
        let of_file = self.header().map(|header| &*header.weight_types);
        of_file.or_else(|| self.entry.map(|entry| entry.weight_types))
    }

    /// From the file, or else from the catalogue.
    fn context(&self) -> Option<u32> {
        self.header().map(|header| header.context).or_else(|| self.entry.map(|entry| entry.context))
    }

    /// Why it cannot be served, or what it is.
    fn note(&self) -> Option<String> {
        let refused = match self.present.as_ref().map(|present| &present.header) {
            Some(Err(error)) => Some(error),
            Some(Ok(Header { fit: Fit::Not(error), .. })) => Some(error),
            _ => None,
        };
        refused.cloned().or_else(|| self.entry.map(|entry| entry.description.to_owned()))
    }
}

fn value(listed: &Listed) -> Value {
    let header = listed.header();
    let demand = header.map(|header| header.demand);
    let max_model_len = header.and_then(|header| match header.fit {
        Fit::Whole => Some(header.context),
        Fit::Shorter(tokens) => Some(tokens),
        Fit::Not(_) => None,
    });
    json!({
        "name": listed.name,
        "description": listed.entry.map(|entry| entry.description),
        "present": listed.present.is_some(),
        "path": listed.present.as_ref().map(|present| present.path.to_str()),
        "bytes": listed.present.as_ref().map(|present| present.bytes)
            .or(listed.entry.map(|entry| entry.bytes)),
        "download_bytes": listed.entry.map(Entry::download_bytes),
        "weight_types": listed.weight_types(),
        "context": listed.context(),
        "licence": listed.entry.map(|entry| entry.licence.name),
        "licence_notice": listed.entry.map(|entry| entry.licence.notice),
        "weights_bytes": demand.map(|demand| demand.weights_bytes),
        "activation_bytes": demand.map(|demand| demand.activation_bytes),
        "buffer_bytes": demand.map(|demand| demand.buffer_bytes),
        "kv_bytes": header.map(Header::kv_bytes),
        "memory_bytes": header.map(Header::memory_bytes),
        "fits": header.map(|header| matches!(header.fit, Fit::Whole)),
        "max_model_len_that_fits": max_model_len,
        "error": listed.present.as_ref().and_then(|present| match &present.header {
            Err(error) | Ok(Header { fit: Fit::Not(error), .. }) => Some(error),
            Ok(_) => None,
        }),
    })
}

/// The list in columns, and a line for each model that there is more to say about.
fn table(list: &[Listed]) -> String {
    let head = ["MODEL", "PRESENT", "SIZE", "WEIGHTS", "CONTEXT", "MEMORY", "FITS", "LICENCE"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(list.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 8] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text += "\n";
    }
    text += "\n";
    for listed in list {
        text.extend(listed.note().map(|note| format!("{}: {note}\n", listed.name)));
    }
    text
}

fn row(listed: &Listed) -> [String; 8] {
    let unknown = || UNKNOWN.to_owned();
    let size = match (&listed.present, listed.entry) {
        (Some(present), _) => Bytes(present.bytes).to_string(),
        (None, Some(entry)) => format!("{} to fetch", Bytes(entry.download_bytes())),
        (None, None) => unknown(),
    };
    let fits = listed.header().map_or_else(unknown, |header| match header.fit {
        Fit::Whole => "yes".to_owned(),
        Fit::Shorter(tokens) => format!("{} tokens", thousands(u64::from(tokens))),
        Fit::Not(_) => "no".to_owned(),
    });
    [
        listed.name.clone(),
        if listed.present.is_some() { "yes" } else { "no" }.to_owned(),
        size,
        listed.weight_types().map_or_else(unknown, |types| types.join(" ")),
        listed.context().map_or_else(unknown, |tokens| thousands(u64::from(tokens))),
        listed.header().map_or_else(unknown, |header| Bytes(header.memory_bytes()).to_string()),
        fits,
        listed.entry.map_or_else(unknown, |entry| entry.licence.name.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    /// The list of a cache folder with these files, on a machine of so much memory.
    fn listed<N: AsRef<Path>>(files: &[(N, &[u8])], total_bytes: u64) -> Vec<Listed> {
        let cache = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(cache.path().join(name), bytes).unwrap();
        }
        let machine = MachineMemory { total_bytes, available_bytes: total_bytes };
        list(cache.path(), &serve_options(), machine).unwrap()
    }

    /// The bytes of a model file that can be served.
    fn tiny() -> Vec<u8> {
        model::dummy::DummyShape::tiny().gguf(0)
    }

    #[test]
    fn what_is_not_fetched_is_described_by_the_catalogue() {
        let list = listed::<&str>(&[], 64 << 30);
        assert_eq!(list.len(), catalogue::ENTRIES.len());
        let gemma = value(list.iter().find(|listed| listed.name == "gemma3-270m").unwrap());
        assert_eq!(gemma["present"], false);
        assert_eq!(gemma["download_bytes"], 238_175_024);
        assert_eq!(gemma["context"], 32_768);
        assert_eq!(gemma["licence"], "Gemma Terms of Use");
        assert!(gemma["description"].as_str().unwrap().contains("without a chat template"));
        for unknown in ["path", "memory_bytes", "fits", "error"] {
            assert_eq!(gemma[unknown], Value::Null, "{unknown}");
        }
        let text = table(&list);
        assert!(text.contains("227.14 MiB to fetch"), "{text}");
    }

    #[test]
    fn files_of_ones_own_are_listed_with_what_they_need() {
        let model = tiny();
        let later = ("a-00002-of-00002.gguf", &b"no model of its own"[..]);
        let files = [("b.GGUF", &*model), ("a.gguf", b"no model"), ("c.txt", b"no name"), later];
        let list = listed(&files, 64 << 30);
        let values: Vec<Value> = list.iter().skip(catalogue::ENTRIES.len()).map(value).collect();
        let [bad, good] = &*values else { panic!("{values:#?}") };
        assert!(bad["name"].as_str().unwrap().ends_with("a.gguf"));
        assert!(bad["error"].as_str().unwrap().contains("GGUF"), "{bad}");
        assert_eq!(bad["fits"], Value::Null);

        assert!(good["name"].as_str().unwrap().ends_with("b.GGUF"));
        assert_eq!(good["bytes"], model.len());
        assert_eq!((&good["fits"], &good["error"]), (&json!(true), &Value::Null));
        assert_eq!(good["max_model_len_that_fits"], good["context"]);
        let terms = ["weights_bytes", "activation_bytes", "buffer_bytes", "kv_bytes"];
        let sum: u64 = terms.iter().map(|term| good[term].as_u64().unwrap()).sum();
        assert_eq!(good["memory_bytes"], sum);
    }

    #[test]
    fn a_file_whose_name_is_no_text_is_listed_as_one_to_rename() {
        let list = listed(&[(OsStr::from_bytes(b"\xff.gguf"), &*tiny())], 64 << 30);
        let value = value(list.last().unwrap());
        assert!(value["error"].as_str().unwrap().contains("rename it"), "{value}");
        assert_eq!((&value["path"], &value["fits"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn of_the_hubs_cache_what_can_be_served_is_listed_and_the_rest_is_named() {
        let cache = tempfile::tempdir().unwrap();
        let cached = |name: &str, bytes: &[u8]| {
            let path = cache.path().join(name.replace('/', "-"));
            fs::write(&path, bytes).unwrap();
            let name = hub::Name::parse(name).unwrap();
            Cached { name, path, bytes: bytes.len() as u64 }
        };
        let all = vec![cached("org/good:a.gguf", &tiny()), cached("org/image:b.gguf", b"GGUF")];
        let machine = MachineMemory { total_bytes: 64 << 30, available_bytes: 64 << 30 };
        let of_hub = HubCache::of("/hub".into(), all, &serve_options(), machine);
        let [listed] = &*of_hub.served else { panic!("{}", table(&of_hub.served)) };
        let listed = value(listed);
        assert_eq!(
            (&listed["name"], &listed["fits"]),
            (&json!("hf:org/good:a.gguf"), &json!(true))
        );
        assert_eq!(of_hub.others, ["hf:org/image:b.gguf"]);
        let said = said_of(&Ok(HubCache { served: Vec::new(), ..of_hub }));
        assert!(said.contains("1 of other kinds there is not listed"), "{said}");
        let none = HubCache { path: "/hub".into(), served: Vec::new(), others: Vec::new() };
        assert_eq!(said_of(&Ok(none)), "Models of the hub are kept in /hub.");
    }

    #[test]
    fn whether_it_fits_is_what_serve_would_do_on_that_machine() {
        let model = tiny();
        let on = |total_bytes| {
            let list = listed(&[("a.gguf", &model)], total_bytes);
            value(list.last().unwrap())
        };
        let needed = on(64 << 30)["memory_bytes"].as_u64().unwrap();
        // By itself `serve` takes half of the machine.
        assert_eq!(on(2 * needed)["fits"], true);
        let less = on(2 * (needed - 1));
        assert_eq!(less["fits"], false);
        assert!(less["max_model_len_that_fits"].as_u64() < less["context"].as_u64(), "{less}");
        assert_eq!(less["error"], Value::Null);
        let little = on(1 << 20);
        assert_eq!(
            (&little["fits"], &little["max_model_len_that_fits"]),
            (&json!(false), &Value::Null)
        );
        assert!(little["error"].as_str().unwrap().contains("leaves no room"), "{little}");
    }
}
