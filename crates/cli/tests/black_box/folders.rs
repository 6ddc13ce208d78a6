//! Folders of `config.json`, safetensors and `tokenizer.json`, wherever a model is asked for.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::process::{Server, millrace};

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families").join(name);
    path.to_str().expect("it is text").to_owned()
}

/// The golden prompt and answer of a fixture as text: id 1 is a space, and the other printable
/// characters of ASCII follow.
fn golden(name: &str) -> (String, String) {
    let text = fs::read_to_string(fixture(&format!("{name}.json"))).expect("it is there");
    let golden: Value = serde_json::from_str(&text).expect("it is JSON");
    let spelt = |key: &str| -> String {
        let ids = golden[key].as_array().expect("a list").iter().map(|id| id.as_u64());
        ids.map(|id| char::from(31 + id.expect("an id") as u8)).collect()
    };
    (spelt("prompt"), spelt("answer"))
}

const CACHE: [&str; 2] = ["--kv-cache-memory-bytes", "16MiB"];

#[test]
fn generate_gives_what_the_transformers_library_gives() {
    for name in ["qwen2", "qwen2-fp8", "mixtral", "gpt2"] {
        let (prompt, answer) = golden(name);
        let folder = fixture(name);
        let options = ["--model", &folder, "--raw", &prompt, "--max-tokens", "12"];
        let arguments = ["generate"].into_iter().chain(options).chain(CACHE);
        assert_eq!(millrace(arguments).output(), format!("{answer}\n"), "{name}");
    }
}

#[test]
fn a_folder_is_served_under_its_name_quantised_if_that_is_asked_for() {
    let folder = fixture("qwen2");
    let options = ["--model", &folder, "--quantization", "q8_0"];
    let server = Server::start(options.into_iter().chain(CACHE));
    let info = server.get("/server_info").json();
    assert_eq!(info["sampling_defaults"]["temperature"], 1.0);
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "qwen2");
    let body = json!({
        "model": "qwen2",
        "messages": [{"role": "user", "content": "Hello there"}],
        "temperature": 0,
        "max_tokens": 5,
        "ignore_eos": true,
    });
    let reply = server.post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    // Eleven letters and the token behind them that the template writes.
    assert_eq!(reply.json()["usage"]["prompt_tokens"], 12);
    assert_eq!(reply.json()["usage"]["completion_tokens"], 5);
}

#[test]
fn what_requests_leave_out_is_as_generation_config_has_it_unless_that_is_not_wanted() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    for entry in fs::read_dir(fixture("mistral")).expect("it is there") {
        let entry = entry.expect("it can be read");
        fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("both are there");
    }
    let settings = json!({"eos_token_id": 0, "temperature": 0.6, "top_p": 0.95, "top_k": 20});
    fs::write(folder.path().join("generation_config.json"), settings.to_string()).expect("ours");
    let path = folder.path().to_str().expect("it is text");
    for (options, temperature, top_k, is_said) in
        [(&[][..], 0.6, 20, true), (&["--generation-config", "vllm"], 1.0, 0, false)]
    {
        let model = ["--model", path].into_iter().chain(CACHE);
        let server = Server::start(model.chain(options.iter().copied()));
        let defaults = &server.get("/server_info").json()["sampling_defaults"];
        assert_eq!(defaults["temperature"], temperature);
        assert_eq!(defaults["top_k"], top_k);
        assert_eq!(server.stderr().contains("temperature 0.6, top_p 0.95, top_k 20"), is_said);
    }
}

#[test]
fn check_and_plan_say_what_a_folder_holds_or_lacks() {
    let checked = millrace(["check", &fixture("qwen2")]);
    for line in ["format         safetensors in 3 files\n", "architecture   qwen2\n", "6 tokens\n"]
    {
        assert!(checked.output().contains(line), "no {line:?} in {}", checked.stdout);
    }
    let planned = millrace(["plan", "--model", &fixture("qwen2")]);
    assert!(planned.output().contains("qwen2"), "{}", planned.stdout);

    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let path = folder.path().to_str().expect("it is text");
    for (file, part) in [
        (None, "has no config.json"),
        (Some("config.json"), "has neither model.safetensors nor"),
        (Some("model.safetensors.index.json"), "names `model-00001-of-00003.safetensors`"),
        (Some("model-00001-of-00003.safetensors"), "names `model-00002-of-00003.safetensors`"),
    ] {
        if let Some(file) = file {
            let from = PathBuf::from(fixture("qwen2")).join(file);
            fs::copy(from, folder.path().join(file)).expect("both are there");
        }
        let refused = millrace(["check", path]);
        assert_eq!(refused.code(), Some(2), "{refused:?}");
        assert!(refused.stderr.contains(part), "no {part:?} in {}", refused.stderr);
    }
}
