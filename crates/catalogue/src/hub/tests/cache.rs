//! What is taken of a repository, where it is put, and what is found there again.

use super::*;

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

/// Takes it as `serve` does, and gives what was said of doubts.
fn take(bench: &Bench, variables: &[(&str, &str)], name: &str) -> (Result<PathBuf, Error>, String) {
    let (mut said, settings) = (String::new(), bench.settings(variables));
    let taken = fetch(&Name::parse(name).unwrap(), &settings, &mut |step| {
        if let Progress::Unasked { doubt, reason } = step {
            said += &format!("{doubt}: {reason}");
        }
    });
    (taken, said)
}

#[test]
fn a_file_that_was_fetched_by_name_is_not_taken_for_what_the_repository_gives() {
    let bench = Bench::new();
    bench.hub.add(REPOSITORY, "x-Q4_K_M.gguf", Storage::Lfs, b"preferred");
    let named = bench.pull("hf:org/tiny:tiny.gguf").unwrap();
    let (path, said) = take(&bench, &[("HF_HUB_OFFLINE", "1")], "org/tiny");
    assert_eq!(path.unwrap(), named);
    assert!(said.contains("takes tiny.gguf") && said.contains("HF_HUB_OFFLINE is set"), "{said}");
    bench.hub.spoil("api/models", 1, Fault::Status(503, "x", "y"));
    let (path, said) = take(&bench, &[], "org/tiny");
    assert_eq!(path.unwrap(), named, "one that does not answer keeps nobody from what is there");
    assert!(said.contains("takes tiny.gguf") && said.contains("503"), "{said}");

    let (path, said) = take(&bench, &[], "org/tiny");
    assert_eq!((fs::read(path.unwrap()).unwrap(), &*said), (b"preferred".to_vec(), ""));
    bench.hub.asked();
    for (name, bytes) in [("org/tiny", b"preferred".to_vec()), ("org/tiny:tiny.gguf", model())] {
        let (path, said) = take(&bench, &[], name);
        assert_eq!((fs::read(path.unwrap()).unwrap(), &*said), (bytes, ""));
    }
    assert!(bench.hub.asked().is_empty(), "the answer is kept");
}

#[test]
fn the_only_file_of_a_repository_is_asked_about_once() {
    let bench = Bench::new();
    let path = bench.pull("org/tiny:tiny.gguf").unwrap();
    bench.hub.asked();
    for asked in [1, 0] {
        let (taken, said) = take(&bench, &[], "org/tiny");
        assert_eq!((taken.unwrap(), &*said), (path.clone(), ""));
        assert_eq!(bench.hub.asked().len(), asked);
    }
}

#[test]
fn what_another_client_left_out_of_a_folder_is_asked_for_once() {
    let bench = Bench::new();
    add_folder(&bench.hub);
    let path = bench.pull("org/shards").unwrap();
    let online = |name| take(&bench, &[], name);
    bench.hub.asked();
    assert_eq!(online("org/shards").0.unwrap(), path);
    assert!(bench.hub.asked().is_empty(), "the listing said which there are");

    let repository = bench.folder.path().join("models--org--shards");
    fs::remove_dir_all(repository.join(".no_exist")).unwrap();
    fs::remove_file(path.join("chat_template.jinja")).unwrap();
    let all = "goes without generation_config.json, tokenizer_config.json, chat_template.jinja";
    let (taken, said) = take(&bench, &[("HF_HUB_OFFLINE", "1")], "org/shards");
    assert!(taken.unwrap() == path && said.contains(all), "{said}");
    bench.hub.spoil("HEAD", 1, Fault::Status(503, "x", "y"));
    let (taken, said) = online("org/shards");
    assert!(taken.unwrap() == path && said.contains(all) && said.contains("503"), "{said}");

    let (taken, said) = online("org/shards");
    assert_eq!((taken.unwrap(), &*said), (path.clone(), ""));
    assert_eq!(fs::read(path.join("chat_template.jinja")).unwrap(), b"hello");
    // As huggingface_hub notes it.
    let absent = repository.join(".no_exist").join(bench.hub.commit("org/shards"));
    assert_eq!(names(&absent), ["generation_config.json", "tokenizer_config.json"]);
    bench.hub.asked();
    assert_eq!(online("org/shards").0.unwrap(), path);
    assert!(bench.hub.asked().is_empty(), "it is asked once");
}

#[test]
fn all_parts_of_a_split_file_are_fetched_and_listed_as_one_model() {
    let bench = Bench::new();
    let parts = ["a/x-00001-of-00003.gguf", "a/x-00002-of-00003.gguf", "a/x-00003-of-00003.gguf"];
    for (part, bytes) in parts.into_iter().zip([&b"one"[..], b"two", b"three"]) {
        bench.hub.add("org/split", part, Storage::Lfs, bytes);
    }
    let path = bench.pull("org/split:a/x-00001-of-00003.gguf").unwrap();
    assert_eq!(path.file_name().unwrap(), "x-00001-of-00003.gguf");
    assert_eq!(fs::read(path.with_file_name("x-00003-of-00003.gguf")).unwrap(), b"three");
    let listed = cached(&bench.settings(&[])).unwrap();
    let [found] = &listed[..] else { panic!("{listed:?}") };
    let name = "hf:org/split:a/x-00001-of-00003.gguf";
    assert_eq!((found.name.to_string().as_str(), found.bytes), (name, 3 + 3 + 5));
    assert_eq!(bench.find("org/split"), Some(path.clone()));

    // What came of a pull that failed, or was deleted, is fetched again.
    fs::remove_file(path.with_file_name("x-00002-of-00003.gguf")).unwrap();
    assert_eq!((bench.find(name), cached(&bench.settings(&[])).unwrap()), (None, vec![]));
    assert_eq!(bench.pull("org/split").unwrap(), path);
    assert_eq!(bench.find(name), Some(path));
}

#[test]
fn a_revision_is_fetched_and_found_beside_main() {
    let bench = Bench::new();
    let old = bench.hub.commit(REPOSITORY);
    bench.hub.branch(REPOSITORY, "refs/pr/1");
    bench.hub.add(REPOSITORY, FILE, Storage::Lfs, b"new");
    let new = bench.hub.commit(REPOSITORY);
    let snapshot = |commit: &str| bench.repository().join("snapshots").join(commit).join(FILE);

    assert_eq!(bench.pull("org/tiny@refs/pr/1").unwrap(), snapshot(&old));
    assert_eq!(fs::read_to_string(bench.repository().join("refs/refs/pr/1")).unwrap(), old);
    assert_eq!(bench.find("org/tiny"), None);
    assert_eq!(bench.pull("org/tiny").unwrap(), snapshot(&new));
    assert_eq!(bench.find("org/tiny@refs/pr/1:tiny.gguf"), Some(snapshot(&old)));
    assert_eq!(bench.find("org/tiny"), Some(snapshot(&new)));
    let listed = cached(&bench.settings(&[])).unwrap();
    let listed: Vec<String> = listed.iter().map(|cached| cached.name.to_string()).collect();
    assert_eq!(listed, ["hf:org/tiny:tiny.gguf", "hf:org/tiny@refs/pr/1:tiny.gguf"]);

    // A commit names itself, and nothing is noted of it.
    let name = format!("org/tiny@{old}");
    assert_eq!(bench.find(&name), Some(snapshot(&old)));
    assert_eq!(bench.pull(&name).unwrap(), snapshot(&old));
    assert_eq!(names(&bench.repository().join("refs")), ["main", "refs"]);
}

/// Names of all that is listed.
fn listed(bench: &Bench) -> Vec<String> {
    let cached = cached(&bench.settings(&[])).unwrap();
    cached.iter().map(|cached| cached.name.to_string()).collect()
}

#[test]
fn a_commit_that_no_revision_names_is_listed_by_itself() {
    let bench = Bench::new();
    let old = bench.hub.commit(REPOSITORY);
    let by_commit = format!("hf:org/tiny@{old}:tiny.gguf");
    bench.pull(&format!("org/tiny@{old}")).unwrap();
    assert_eq!(listed(&bench), std::slice::from_ref(&by_commit));
    bench.pull("org/tiny").unwrap();
    assert_eq!(listed(&bench), ["hf:org/tiny:tiny.gguf"], "it is what main names");
    bench.hub.add(REPOSITORY, FILE, Storage::Lfs, b"new");
    bench.pull("org/tiny").unwrap();
    assert_eq!(listed(&bench), ["hf:org/tiny:tiny.gguf".to_owned(), by_commit.clone()]);
    assert!(bench.find(&by_commit).is_some());
}

#[test]
fn a_revision_that_begins_the_name_of_another_is_refused_with_what_to_name_instead() {
    for (first, second) in [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c"), ("refs/pr/1", "refs")] {
        let bench = Bench::new();
        let commit = bench.hub.commit(REPOSITORY);
        [first, second].into_iter().for_each(|branch| bench.hub.branch(REPOSITORY, branch));
        let path = bench.pull(&format!("org/tiny@{first}")).unwrap();
        bench.hub.asked();
        let said = bench.refused(&format!("org/tiny@{second}"));
        let instead = format!("hf:org/tiny@{commit}");
        assert!(said.contains(&format!("`{second}`")) && said.contains(&instead), "{said}");
        assert!(said.contains(bench.repository().join("refs").to_str().unwrap()), "{said}");
        assert_eq!(bench.pull(&instead).unwrap(), path);
        // What is in the way may go: it only says which commit is meant.
        fs::remove_dir_all(bench.repository().join("refs")).unwrap();
        assert_eq!(bench.pull(&format!("org/tiny@{second}")).unwrap(), path);
    }
}

#[test]
fn a_revision_may_have_the_longest_name_that_a_file_can() {
    let bench = Bench::new();
    let long = "x".repeat(255);
    bench.hub.branch(REPOSITORY, &long);
    let name = format!("org/tiny@{long}");
    let path = bench.pull(&name).unwrap();
    assert_eq!(bench.find(&name), Some(path));
}
