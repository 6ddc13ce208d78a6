//! Models of the hub: fetched from one in this process, and then there without it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use mock_hub::{Fault, MockHub, Storage, sha256};
use serde_json::{Value, json};

use crate::process::wait_for;

/// The file of a model that answers, and is small.
fn tiny() -> Vec<u8> {
    model::dummy::DummyShape::tiny().gguf(0)
}

/// `millrace` with a home of its own, and the address of the hub.
fn millrace(home: &Path, endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.args(arguments).env_clear().env("HF_ENDPOINT", endpoint).env("HOME", home);
    command
}

/// Runs it with one variable more; gives its output, or its complaint.
fn run(
    home: &Path,
    endpoint: &str,
    (name, value): (&str, &str),
    arguments: &[&str],
) -> Result<String, String> {
    let mut command = millrace(home, endpoint, arguments);
    let ended = command.env(name, value).output().expect("the binary was built");
    let text = |bytes| String::from_utf8(bytes).expect("it writes UTF-8");
    if ended.status.success() { Ok(text(ended.stdout)) } else { Err(text(ended.stderr)) }
}

#[test]
fn a_model_of_the_hub_is_fetched_once_and_then_serves_offline() {
    let (hub, home) =
        (MockHub::start(), tempfile::tempdir().expect("temporary folders can be made"));
    let bytes = tiny();
    hub.add("org/tiny", "tiny.gguf", Storage::Lfs, &bytes);
    hub.add("org/image", "model.gguf", Storage::Lfs, b"GGUF, but no language model");
    hub.spoil("signed=yes", 1, Fault::Cut(1000));
    let endpoint = hub.endpoint();
    let online =
        |arguments: &[&str]| run(home.path(), &endpoint, ("HF_HUB_OFFLINE", "0"), arguments);
    let offline =
        |arguments: &[&str]| run(home.path(), &endpoint, ("HF_HUB_OFFLINE", "1"), arguments);

    let refused = offline(&["check", "hf:org/tiny"]).expect_err("nothing was fetched");
    assert!(refused.contains("HF_HUB_OFFLINE is set"), "{refused}");
    let path = online(&["pull", "hf:org/tiny:tiny.gguf"]).expect("the hub has it");
    let cache = home.path().join(".cache/huggingface/hub/models--org--tiny");
    assert!(path.starts_with(cache.join("snapshots").to_str().expect("it is text")), "{path}");
    assert_eq!(fs::read(path.trim_end()).expect("it was fetched"), bytes);
    assert!(hub.asked().iter().any(|asked| asked.range.as_deref() == Some("bytes=1000-")));

    let said = |name: &str| {
        offline(&["generate", "a b c", "--raw", "--max-tokens", "4", "--model", name])
            .expect("it is in the cache")
    };
    let answer = said("hf:org/tiny:tiny.gguf");
    assert!(!answer.trim().is_empty());
    assert_eq!([said("org/tiny"), said("dummy:tiny")], [answer.clone(), answer]);
    assert!(hub.asked().is_empty(), "offline nobody is asked");

    online(&["pull", "org/image"]).expect("it does not look inside");
    let list = offline(&["models", "--json"]).expect("there is a cache");
    let list: Value = serde_json::from_str(&list).expect("it is JSON");
    let mut listed = list["models"].as_array().expect("it is a list").iter();
    let listed =
        listed.find(|listed| listed["name"] == "hf:org/tiny:tiny.gguf").expect("it is listed");
    assert_eq!((&listed["bytes"], &listed["fits"]), (&json!(bytes.len()), &json!(true)));
    assert_eq!(list["hub_cache_others"], json!(["hf:org/image:model.gguf"]));
}

#[test]
fn a_bad_variable_of_the_hub_leaves_the_rest_of_the_list() {
    let home = tempfile::tempdir().expect("temporary folders can be made");
    let list = |arguments: &[&str]| {
        run(home.path(), "hub.local", ("HF_HUB_OFFLINE", "1"), arguments)
            .expect("the catalogue does not depend on the hub")
    };
    let said = list(&["models"]);
    assert!(said.contains("smollm2-135m"), "{said}");
    assert!(said.contains("hub are not listed: the environment variable HF_ENDPOINT"), "{said}");
    let list: Value = serde_json::from_str(&list(&["models", "--json"])).expect("it is JSON");
    assert_eq!((&list["hub_cache"], &list["hub_cache_others"]), (&Value::Null, &json!([])));
    let error = list["hub_cache_error"].as_str().expect("it is said");
    assert!(error.contains("HF_ENDPOINT"), "{error}");
    assert!(list["models"].as_array().is_some_and(|models| !models.is_empty()));
}

#[test]
fn a_model_in_safetensors_is_a_folder_that_serves_offline() {
    const FOLDER: &str = "../../fixtures/families/qwen2";
    let (hub, home) =
        (MockHub::start(), tempfile::tempdir().expect("temporary folders can be made"));
    for found in fs::read_dir(FOLDER).expect("the fixture is there") {
        let path = found.expect("it can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("it is text");
        let is_large = name.ends_with(".safetensors");
        let storage = if is_large { Storage::Lfs } else { Storage::Git };
        hub.add("org/folder", name, storage, &fs::read(&path).expect("it can be read"));
    }
    hub.spoil("signed=yes", 1, Fault::Cut(5000));
    let endpoint = hub.endpoint();
    let said = |name: &str, offline: &str| {
        let arguments = ["generate", "a b c", "--raw", "--max-tokens", "8", "--model", name];
        run(home.path(), &endpoint, ("HF_HUB_OFFLINE", offline), &arguments)
            .expect("it is there or fetched")
    };
    let answer = said("org/folder", "0");
    assert!(hub.asked().iter().any(|asked| asked.range.as_deref() == Some("bytes=5000-")));
    assert_eq!([said("hf:org/folder", "1"), said(FOLDER, "1")], [answer.clone(), answer]);
    assert!(hub.asked().is_empty(), "offline nobody is asked");
    let list = run(home.path(), &endpoint, ("HF_HUB_OFFLINE", "1"), &["models", "--json"]);
    let list: Value = serde_json::from_str(&list.expect("there is a cache")).expect("it is JSON");
    let mut listed = list["models"].as_array().expect("it is a list").iter();
    let listed = listed.find(|listed| listed["name"] == "hf:org/folder").expect("it is listed");
    assert_eq!((&listed["fits"], &listed["error"]), (&json!(true), &Value::Null));
    assert!(300_000 < listed["bytes"].as_u64().expect("all files together"), "{listed}");
}

#[test]
fn commands_fetch_what_they_need_of_the_hub_and_say_what_is_wrong() {
    let (hub, home) =
        (MockHub::start(), tempfile::tempdir().expect("temporary folders can be made"));
    let endpoint = hub.endpoint();
    let online = |arguments: &[&str]| run(home.path(), &endpoint, ("HF_TOKEN", ""), arguments);
    hub.add("org/tiny", "tiny.gguf", Storage::Lfs, &tiny());
    let checked = online(&["check", "org/tiny"]).expect("it is fetched");
    assert!(checked.contains("architecture   llama\n"), "{checked}");

    let config = br#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 100,
        "max_position_embeddings": 512, "torch_dtype": "bfloat16"}"#;
    for (file, bytes) in
        [("config.json", &config[..]), ("tokenizer.json", b"{}"), ("model.safetensors", b"")]
    {
        hub.add("org/large", file, Storage::Git, bytes);
    }
    hub.asked();
    let plan = online(&["plan", "--model", "hf:org/large", "--memory-utilization", "0.1"])
        .expect("its config.json will do");
    assert!(plan.contains("org/large"), "{plan}");
    assert!(!hub.asked().iter().any(|asked| asked.target.contains("safetensors")));

    for (arguments, expected) in [
        (["pull", "hf:org/missing"], "check the name"),
        (["pull", "hf:../name"], "names no model of the hub"),
        (["pull", "src/main.rs"], "is a path on this machine"),
        (["check", "hf:org/missing"], "cannot get hf:org/missing of the hub"),
    ] {
        let said = online(&arguments).expect_err("it is wrong");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_path_that_is_not_there_is_said_before_the_hub_is_asked() {
    let (hub, home) =
        (MockHub::start(), tempfile::tempdir().expect("temporary folders can be made"));
    let check = |name: &str| {
        run(home.path(), &hub.endpoint(), ("HF_TOKEN", ""), &["check", name])
            .expect_err("it is nowhere")
    };
    let said = check("models/tniy");
    let (first, last) = said.split_once('\n').expect("a notice, and an error");
    let no_path = "there is no file or folder `models/tniy` here";
    assert_eq!(first, format!("{no_path}: taking it for hf:models/tniy of the hub"));
    let expected = format!("millrace: {no_path}, and cannot get hf:models/tniy of the hub: ");
    assert!(last.starts_with(&expected) && last.lines().count() == 1, "{last}");
    let said = check("hf:models/tniy");
    assert!(!said.contains("file or folder"), "{said}");
}

#[test]
fn the_hub_is_known_by_its_certificate() {
    let (hub, certificate) = MockHub::start_secure();
    let home = tempfile::tempdir().expect("temporary folders can be made");
    hub.add("org/tiny", "tiny.gguf", Storage::Lfs, b"weights");
    let authority = home.path().join("authority.pem");
    fs::write(&authority, certificate).expect("the folder is ours");
    let authority = authority.to_str().expect("it is text");
    let pull =
        |variable: (&str, &str)| run(home.path(), &hub.endpoint(), variable, &["pull", "org/tiny"]);
    let said = pull(("HF_TOKEN", "hf_secret")).expect_err("nobody vouches for it");
    assert!(said.contains("certificate") && !said.contains("trying again"), "{said}");
    assert!(hub.asked().is_empty(), "no request, and so no token, has left");
    let path = pull(("SSL_CERT_FILE", authority)).expect("it is known");
    assert_eq!(fs::read(path.trim_end()).expect("it was fetched"), b"weights");
}

#[test]
fn a_pull_that_is_killed_leaves_its_bytes_to_the_one_that_waits() {
    let (hub, home) =
        (MockHub::start(), tempfile::tempdir().expect("temporary folders can be made"));
    let bytes = tiny();
    hub.add("org/tiny", "tiny.gguf", Storage::Lfs, &bytes);
    hub.spoil("signed=yes", 1, Fault::Stall(1000));
    let pull = || {
        let mut command = millrace(home.path(), &hub.endpoint(), &["pull", "org/tiny"]);
        let stderr = tempfile::NamedTempFile::new().expect("temporary files can be made");
        command.stdout(Stdio::piped()).stderr(stderr.reopen().expect("it is there"));
        (command.spawn().expect("the binary was built"), stderr)
    };
    let (mut first, _) = pull();
    let cache = home.path().join(".cache/huggingface/hub");
    let incomplete = cache.join("models--org--tiny/blobs").join(sha256(&bytes) + ".incomplete");
    wait_for("the first bytes", || {
        fs::metadata(&incomplete).ok().filter(|found| found.len() == 1000)
    });
    let (second, said) = pull();
    wait_for("the second to wait", || {
        let said = fs::read_to_string(said.path()).expect("it is ours");
        said.contains("another process is fetching it; waiting").then_some(())
    });
    first.kill().and_then(|()| first.wait()).expect("it hangs");
    let path = second.wait_with_output().expect("it ends").stdout;
    let path = String::from_utf8(path).expect("it writes UTF-8");
    assert_eq!(fs::read(path.trim_end()).expect("it was fetched"), bytes);
    let asked = hub.asked().into_iter().filter(|asked| asked.target.contains("signed"));
    let asked: Vec<_> = asked.map(|asked| (asked.range, asked.sent)).collect();
    assert_eq!(asked, [(None, 1000), (Some("bytes=1000-".to_owned()), bytes.len() - 1000)]);
}
