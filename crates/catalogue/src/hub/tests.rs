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

/// A hub, and a cache that is empty at first.
struct Bench {
    hub: MockHub,
    folder: tempfile::TempDir,
    /// Longest wait for bytes; longer than a busy machine takes, unless a test is about it.
    patience: Duration,
}

impl Bench {
    /// The hub has one repository with one large file.
    fn new() -> Self {
        let (hub, folder) = (MockHub::start(), tempfile::tempdir().unwrap());
        let bench = Self { hub, folder, patience: Duration::from_secs(60) };
        bench.hub.add(REPOSITORY, FILE, Storage::Lfs, &model());
        bench
    }

    fn settings(&self, variables: &[(&str, &str)]) -> Settings {
        let endpoint = self.hub.endpoint();
        let cache = self.folder.path().to_str().unwrap();
        let all = [("HF_ENDPOINT", &*endpoint), ("HF_HUB_CACHE", cache)];
        let find = |name: &str| variables.iter().chain(&all).find(|(found, _)| *found == name);
        Settings::of(|name| find(name).map(|(_, value)| value.into())).unwrap()
    }

    fn pull_with(
        &self,
        name: &str,
        variables: &[(&str, &str)],
        say: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, Error> {
        let (settings, name) = (self.settings(variables), Name::parse(name).unwrap());
        let web = Web::with(&settings, self.patience).unwrap();
        let hub = Hub::with(&settings, name.repository(), web, Duration::from_millis(1));
        Pull { name: &name, hub, cache: settings.cache() }.run(say)
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

#[test]
fn a_file_is_laid_out_as_the_hubs_clients_do_and_fetched_once() {
    let bench = Bench::new();
    let mut seen = Vec::new();
    let path = bench.pull_with("hf:org/tiny:tiny.gguf", &[], &mut |step| seen.push(step)).unwrap();
    let (commit, hash) = (bench.hub.commit(REPOSITORY), sha256(&model()));
    assert_eq!(path, bench.repository().join("snapshots").join(&commit).join(FILE));
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../blobs").join(&hash));
    assert_eq!(fs::read(&path).unwrap(), model());
    assert_eq!(names(&bench.repository().join("blobs")), [hash.as_str()]);
    assert_eq!(fs::read_to_string(bench.repository().join("refs/main")).unwrap(), commit);
    let total = model().len() as u64;
    assert_eq!(seen[0], Progress::Downloading { bytes: 0, total });
    assert_eq!(
        seen[seen.len() - 2..],
        [Progress::Downloading { bytes: total, total }, Progress::Ready]
    );

    assert_eq!(bench.sent(), (model().len(), vec![None]));
    for name in ["hf:org/tiny:tiny.gguf", "org/tiny"] {
        assert_eq!(bench.find(name), Some(path.clone()));
        assert_eq!(bench.pull(name).unwrap(), path);
    }
    assert_eq!(bench.sent(), (0, vec![]));
    let cached = cached(&bench.settings(&[])).unwrap();
    let name = Name::parse("hf:org/tiny:tiny.gguf").unwrap();
    assert_eq!(cached, [Cached { name, path, bytes: total }]);
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

#[test]
fn a_model_in_safetensors_is_the_folder_of_what_it_needs() {
    let bench = Bench::new();
    add_folder(&bench.hub);
    let path = bench.pull("org/shards").unwrap();
    let expected = [
        "chat_template.jinja",
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names(&path), expected);
    assert_eq!(fs::read(path.join("model-2.safetensors")).unwrap(), b"two");
    let blobs = bench.folder.path().join("models--org--shards/blobs");
    assert!(names(&blobs).contains(&git_hash(b"")), "small files are named as git does");
    assert_eq!(bench.find("org/shards"), Some(path.clone()));
    let listed = cached(&bench.settings(&[])).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].name.to_string(), listed[0].bytes),
        ("hf:org/shards".to_owned(), 2 + 5 + 72 + 6)
    );

    fs::remove_file(path.join("model-2.safetensors")).unwrap();
    assert_eq!((bench.find("org/shards"), cached(&bench.settings(&[])).unwrap()), (None, vec![]));
    bench.hub.asked();
    assert_eq!(bench.pull("org/shards").unwrap(), path);
    assert_eq!(bench.sent().0, 0, "the blob was there");
}

#[test]
fn the_header_of_a_model_in_safetensors_comes_without_its_weights() {
    let bench = Bench::new();
    add_folder(&bench.hub);
    let header = |name: &str, variables: &[_]| {
        let (name, settings) = (Name::parse(name).unwrap(), bench.settings(variables));
        fetch_header(&name, &settings, &mut |_| {})
    };
    let path = header("org/shards", &[]).unwrap();
    assert_eq!(
        (path.file_name(), fs::read(&path).unwrap()),
        (Some("config.json".as_ref()), b"{}".to_vec())
    );
    assert_eq!(
        (names(path.parent().unwrap()), bench.find("org/shards")),
        (vec!["config.json".to_owned()], None)
    );
    let folder = bench.pull("org/shards").unwrap();
    assert_eq!(header("org/shards", &[("HF_HUB_OFFLINE", "1")]).unwrap(), folder);
    let path = header("org/tiny", &[]).unwrap();
    assert_eq!(fs::read(path).unwrap(), model());
}

#[test]
fn a_connection_that_ends_is_taken_up_where_it_ended() {
    let bench = Bench::new();
    bench.hub.spoil("signed=yes", 1, Fault::Cut(1_000_000));
    bench.hub.spoil("signed=yes", 1, Fault::Shorter(7));
    let mut seen = Vec::new();
    let path = bench.pull_with("org/tiny", &[], &mut |step| seen.push(step)).unwrap();
    assert_eq!(fs::read(path).unwrap(), model());
    let (sent, ranges) = bench.sent();
    assert_eq!(sent, model().len(), "no byte came twice");
    let from = |first: usize| Some(format!("bytes={first}-"));
    let last = model().len() - 7;
    assert_eq!(ranges, [None, from(1_000_000), from(last)]);
    let retries = seen.iter().filter(|step| matches!(step, Progress::Retrying { .. })).count();
    assert_eq!(retries, 2, "{seen:?}");
}

#[test]
fn a_connection_that_says_nothing_is_given_up_and_taken_up() {
    let bench = Bench { patience: Duration::from_millis(500), ..Bench::new() };
    bench.hub.spoil("signed=yes", 1, Fault::Stall(500_000));
    assert_eq!(fs::read(bench.pull("org/tiny").unwrap()).unwrap(), model());
    assert!(bench.sent().1.contains(&Some("bytes=500000-".to_owned())));
}

#[test]
fn a_pull_that_failed_is_taken_up_by_the_next_one() {
    let bench = Bench::new();
    bench.hub.spoil("signed=yes", 1, Fault::Cut(1_000_000));
    bench.hub.spoil("signed=yes", 4, Fault::Status(503, "retry-after", "0"));
    let said = bench.refused("org/tiny");
    assert!(said.contains("503") && said.contains("tried 5 times"), "{said}");
    let incomplete = format!("{}.incomplete", sha256(&model()));
    assert_eq!(names(&bench.repository().join("blobs")), [incomplete.as_str()]);
    assert!(!bench.repository().join("refs").exists() && bench.find("org/tiny").is_none());
    bench.hub.asked();
    let mut seen = Vec::new();
    let path = bench.pull_with("org/tiny", &[], &mut |step| seen.push(step)).unwrap();
    assert_eq!(fs::read(path).unwrap(), model());
    assert_eq!(bench.sent(), (model().len() - 1_000_000, vec![Some("bytes=1000000-".to_owned())]));
    assert!(
        seen.contains(&Progress::Downloading { bytes: 1_000_000, total: 2_400_000 }),
        "{seen:?}"
    );
}

#[test]
fn a_server_that_cannot_skip_sends_all_and_one_that_only_breaks_off_is_given_up() {
    let bench = Bench::new();
    bench.hub.spoil("signed=yes", 1, Fault::Cut(1_000_000));
    bench.hub.spoil("signed=yes", 1, Fault::Whole);
    let path = bench.pull("org/tiny").unwrap();
    assert_eq!(fs::read(path).unwrap(), model());

    let bench = Bench::new();
    bench.hub.spoil("signed=yes", 100, Fault::Cut(0));
    let said = bench.refused("org/tiny");
    assert!(said.contains("0 of 2400000 bytes of tiny.gguf"), "{said}");
    assert_eq!(bench.sent().1.len(), 5);
}

#[test]
fn bytes_that_are_not_the_hubs_are_never_put_in_place() {
    for (storage, part) in [(Storage::Lfs, "signed=yes"), (Storage::Git, "GET /api/resolve-cache")]
    {
        let bench = Bench::new();
        bench.hub.add(REPOSITORY, FILE, storage, &model());
        bench.hub.spoil(part, 1, Fault::Garbled);
        let said = bench.refused("org/tiny");
        let expected = if storage == Storage::Lfs { sha256(&model()) } else { git_hash(&model()) };
        assert!(said.contains(&format!("expected {expected}")), "{said}");
        assert_eq!(names(&bench.repository().join("blobs")), [""; 0]);
        assert!(bench.find("org/tiny").is_none());
        bench.pull("org/tiny").unwrap();
    }
}

#[test]
fn a_wrong_beginning_on_the_disk_costs_one_more_download() {
    let bench = Bench::new();
    let blobs = bench.repository().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let incomplete = blobs.join(format!("{}.incomplete", sha256(&model())));
    fs::write(&incomplete, [0; 1000]).unwrap();
    assert_eq!(fs::read(bench.pull("org/tiny").unwrap()).unwrap(), model());
    assert_eq!(bench.sent().1, [Some("bytes=1000-".to_owned()), None]);

    // One that is too long, and a blob that is too short.
    let blob = blobs.join(sha256(&model()));
    fs::write(&incomplete, vec![0; 3_000_000]).unwrap();
    fs::write(&blob, "short").unwrap();
    fs::remove_dir_all(bench.repository().join("snapshots")).unwrap();
    assert_eq!(fs::read(bench.pull("org/tiny").unwrap()).unwrap(), model());
    assert_eq!(bench.sent().1, [None]);
}

#[test]
fn answers_that_promise_another_file_are_refused() {
    let huge = "1000000000000000000";
    for (part, fault, expected) in [
        ("signed=yes", Fault::Longer(1), "2400001"),
        ("HEAD", Fault::NoHash, "names no hash"),
        ("HEAD", Fault::Header("x-linked-etag", "\"../../../../etc/passwd\""), "names no hash"),
        ("HEAD", Fault::Header("x-linked-size", "-1"), "how long"),
        ("HEAD", Fault::Header("x-linked-size", huge), "HF_HOME"),
        ("HEAD", Fault::Header("x-repo-commit", "0"), "another commit"),
        ("HEAD", Fault::Header("location", "/org/tiny/resolve/main/tiny.gguf"), "redirect"),
        ("GET /org", Fault::Header("location", "ftp://x/"), "not followed"),
        ("signed=yes", Fault::Status(206, "content-range", "bytes 0-1/2"), "bytes 0-1/2"),
        ("signed=yes", Fault::Status(404, "x", "y"), "404"),
        ("api/models", Fault::Says("no JSON"), "expected"),
        ("api/models", Fault::Says(r#"{"sha": "../..", "siblings": []}"#), "no commit"),
        ("api/models", Fault::Says(r#"{"siblings": []}"#), "sha"),
    ] {
        let bench = Bench::new();
        bench.hub.spoil(part, 100, fault.clone());
        let said = bench.refused("org/tiny");
        assert!(said.contains(expected), "{fault:?}: {said}");
        assert!(!said.contains("signed"), "links to files are secrets: {said}");
        assert!(bench.find("org/tiny").is_none() && !bench.repository().join("refs").exists());
    }
}

#[test]
fn files_that_would_lie_elsewhere_are_not_even_seen() {
    let bench = Bench::new();
    let body = r#"{"sha": "0123456789012345678901234567890123456789",
        "siblings": [{"rfilename": "../../x.gguf"}, {"rfilename": "/x.gguf"}, {"rfilename": "a//x.gguf"}]}"#;
    bench.hub.spoil("api/models", 1, Fault::Says(body));
    let said = bench.refused("org/tiny");
    assert!(said.contains("nor a .gguf file"), "{said}");
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let bench = Bench::new();
    bench.hub.gate(REPOSITORY, "hf_right");
    let pull = |token| bench.pull_with("org/tiny", &[("HF_TOKEN", token)], &mut |_| {});
    let said = bench.refused("org/tiny");
    assert!(said.contains("accept its terms at http://127") && said.contains("HF_TOKEN"), "{said}");
    let said = pull("hf_wrong").unwrap_err().to_string();
    assert!(said.contains("Access is restricted") && !said.contains("hf_wrong"), "{said}");
    bench.hub.asked();

    pull("hf_right").unwrap();
    let asked = bench.hub.asked();
    assert!(asked.iter().any(|asked| asked.host == Host::Store));
    for asked in asked {
        let expected = (asked.host == Host::Hub).then_some("Bearer hf_right");
        assert_eq!(asked.authorization.as_deref(), expected, "{asked:?}");
    }
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let bench = Bench::new();
    let said = bench.refused("org/tyni");
    assert!(
        said.contains("org/tyni")
            && said.contains("check the name")
            && said.contains("set HF_TOKEN"),
        "{said}"
    );
    let error = bench.pull_with("org/tyni", &[("HF_TOKEN", "t")], &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("may not read it"), "{error}");
    let said = bench.refused("org/tiny:other.gguf");
    assert!(said.contains("no such file, but tiny.gguf"), "{said}");
    bench.hub.add(REPOSITORY, "second.gguf", Storage::Lfs, b"2");
    let said = bench.refused("org/tiny");
    assert!(said.contains("second.gguf, tiny.gguf"), "{said}");
}

#[test]
fn a_hub_that_is_busy_is_asked_again() {
    let bench = Bench::new();
    for part in ["api/models", "HEAD", "signed=yes"] {
        bench.hub.spoil(part, 1, Fault::Status(429, "retry-after", "0"));
        bench.hub.spoil(part, 1, Fault::Status(500, "x", "y"));
    }
    // A link to a large file that has expired.
    bench.hub.spoil("signed=yes", 1, Fault::Status(403, "x", "y"));
    bench.pull("org/tiny").unwrap();
    assert_eq!(bench.sent().1.len(), 4);
}

#[test]
fn nobody_there_is_said_after_some_tries() {
    let bench = Bench::new();
    let error = bench.pull_with("org/tiny", &[("HF_ENDPOINT", "http://127.0.0.1:1")], &mut |_| {});
    let said = error.unwrap_err().to_string();
    assert!(
        said.contains("127.0.0.1:1, tried 5 times") && said.contains("check the network"),
        "{said}"
    );
}

#[test]
fn several_pulls_at_once_fetch_once() {
    let bench = Bench::new();
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                let path = bench.pull("org/tiny").unwrap();
                assert_eq!(fs::read(path).unwrap(), model());
            });
        }
    });
    assert_eq!(bench.sent(), (model().len(), vec![None]));
}

#[test]
fn whoever_waits_for_another_process_says_so() {
    let bench = Bench::new();
    let locks = bench.folder.path().join(".locks/models--org--tiny");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{}.lock", sha256(&model())))).unwrap();
    lock.lock().unwrap();
    let mut lock = Some(lock);
    let path = bench.pull_with("org/tiny", &[], &mut |step| {
        if step == Progress::Waiting {
            drop(lock.take());
        }
    });
    assert_eq!((fs::read(path.unwrap()).unwrap(), lock.is_none()), (model(), true));
}

#[test]
fn offline_it_is_what_the_cache_has_or_what_it_lacks() {
    let bench = Bench::new();
    add_folder(&bench.hub);
    let offline = |name: &str| {
        let settings = bench.settings(&[("HF_HUB_OFFLINE", "1")]);
        pull(&Name::parse(name).unwrap(), &settings, &mut |_| {})
    };
    let said = offline("org/tiny").unwrap_err().to_string();
    assert!(
        said.contains("HF_HUB_OFFLINE") && said.contains("nothing of that repository"),
        "{said}"
    );
    let (file, folder) = (bench.pull("org/tiny").unwrap(), bench.pull("org/shards").unwrap());
    bench.hub.asked();
    assert_eq!(offline("org/tiny").unwrap(), file);
    assert_eq!(offline("org/shards").unwrap(), folder);
    for (missing, expected) in [
        ("model-1.safetensors", "of it model-1.safetensors is missing"),
        ("config.json", "but no config.json"),
    ] {
        fs::remove_file(folder.join(missing)).unwrap();
        let said = offline("org/shards").unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    assert!(bench.hub.asked().is_empty(), "nobody was asked");
}

#[test]
fn a_new_commit_is_taken_by_a_pull_and_only_when_it_is_whole() {
    let bench = Bench::new();
    add_folder(&bench.hub);
    let old = bench.pull("org/shards").unwrap();
    bench.hub.add("org/shards", "config.json", Storage::Git, b"{\"new\": 1}");
    bench.hub.add("org/shards", "model-1.safetensors", Storage::Lfs, b"new");
    assert_eq!(bench.find("org/shards"), Some(old.clone()));
    bench.hub.spoil("signed=yes", 1, Fault::Garbled);
    bench.refused("org/shards");
    assert_eq!(bench.find("org/shards"), Some(old.clone()));

    bench.hub.asked();
    let new = bench.pull("org/shards").unwrap();
    assert_eq!(bench.find("org/shards"), Some(new.clone()));
    assert_eq!(bench.sent().0, 3, "what has not changed is not fetched again");
    let read = |path: &Path| fs::read(path.join("model-1.safetensors")).unwrap();
    assert_eq!((read(&old), read(&new)), (b"one".to_vec(), b"new".to_vec()));
}

#[test]
fn a_repository_of_another_name_is_found_where_it_went() {
    let bench = Bench::new();
    bench.hub.rename(REPOSITORY, "org/renamed");
    let path = bench.pull("org/tiny").unwrap();
    assert_eq!(
        path,
        bench.repository().join("snapshots").join(bench.hub.commit("org/renamed")).join(FILE)
    );
}

#[test]
fn a_path_is_escaped_and_nested_links_lead_to_their_blobs() {
    let bench = Bench::new();
    let file = "Q4 %2e?#ä/x&y+z.gguf";
    bench.hub.add(REPOSITORY, file, Storage::Git, b"weights");
    let path = bench.pull(&format!("hf:org/tiny:{file}")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"weights");
    assert!(fs::read_link(path).unwrap().starts_with("../../../blobs"));
}

#[test]
fn the_preferred_of_several_files_is_taken_and_said() {
    let bench = Bench::new();
    bench.hub.add(REPOSITORY, "x-Q4_K_M.gguf", Storage::Lfs, b"preferred");
    let mut seen = Vec::new();
    let path = bench.pull_with("org/tiny", &[], &mut |step| seen.push(step)).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"preferred");
    assert_eq!(seen[0], Progress::Chosen { file: "x-Q4_K_M.gguf".to_owned(), among: 2 });
}

/// What huggingface_hub 2.4.0 left after `hf_hub_download` of both files from a hub as this one (its
/// locks and `CACHEDIR.TAG` too); large files are links into a store of all repositories where the hub
/// keeps them in Xet.
fn write_as_huggingface_hub(cache: &Path, commit: &str) {
    let (large, small) = (sha256(&model()), git_hash(b"{\"a\": 1}\n"));
    let repository = cache.join("models--org--tiny");
    for folder in ["blobs", "refs", &format!("snapshots/{commit}")] {
        fs::create_dir_all(repository.join(folder)).unwrap();
    }
    let locks = cache.join(".locks/models--org--tiny");
    let store = cache.join("blobs").join(&large[..2]);
    [&locks, &store].iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    fs::write(cache.join("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
    fs::write(locks.join(format!("{small}.lock")), "").unwrap();
    fs::write(repository.join("refs/main"), commit).unwrap();
    fs::write(repository.join("blobs").join(&small), "{\"a\": 1}\n").unwrap();
    // The store names files by their Xet hash, which nobody else needs to know.
    let xet = "1f".repeat(32);
    fs::write(store.join(&xet), model()).unwrap();
    let link = |to: String, at: PathBuf| std::os::unix::fs::symlink(to, at).unwrap();
    link(format!("../../blobs/{}/{xet}", &large[..2]), repository.join("blobs").join(&large));
    let snapshot = repository.join("snapshots").join(commit);
    link(format!("../../blobs/{large}"), snapshot.join(FILE));
    link(format!("../../blobs/{small}"), snapshot.join("config.json"));
}

#[test]
fn what_huggingface_hub_has_fetched_is_found_and_not_fetched_again() {
    let bench = Bench::new();
    bench.hub.add(REPOSITORY, "config.json", Storage::Git, b"{\"a\": 1}\n");
    let commit = bench.hub.commit(REPOSITORY);
    write_as_huggingface_hub(bench.folder.path(), &commit);
    let path = bench.repository().join("snapshots").join(&commit).join(FILE);
    assert_eq!(bench.find("org/tiny"), Some(path.clone()));
    let listed = cached(&bench.settings(&[])).unwrap();
    assert_eq!((listed[0].bytes, &listed[0].path, listed.len()), (model().len() as u64, &path, 1));

    assert_eq!(bench.pull("org/tiny:tiny.gguf").unwrap(), path);
    // A commit later the same bytes are there under another hash of all.
    bench.hub.add(REPOSITORY, "README.md", Storage::Git, b"new");
    let newer = bench.pull("org/tiny").unwrap();
    assert_eq!(bench.find("org/tiny"), Some(newer.clone()));
    assert_eq!((fs::read(newer).unwrap(), bench.sent().0), (model(), 0));
}
