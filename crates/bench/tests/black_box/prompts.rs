//! What requests say: shared beginnings, conversations, recorded requests and traces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bench::{
    Api, Arrivals, BenchConfig, BenchError, DatasetFile, Extent, LengthLaws, Lengths, Loads,
    RequestForm, SharedPrefix,
};
use serde_json::{Value, json};

use crate::mock_server::{Behaviour, MockServer};
use crate::{config, run, try_run};

fn laws(prompt_tokens: u32, output_tokens: u32) -> LengthLaws {
    LengthLaws::fixed(Lengths { prompt_tokens, output_tokens })
}

fn chat() -> RequestForm {
    RequestForm { api: Api::Chat, ..RequestForm::default() }
}

/// The bodies of all requests but the warm-up.
async fn bodies(change: impl FnOnce(BenchConfig) -> BenchConfig) -> Vec<Value> {
    let server = MockServer::start(Behaviour::default()).await;
    let outcome = run(change(config(server.url(), &[2], 6))).await;
    assert!(outcome.is_success(), "{}", outcome.report);
    server.completions().split_off(1)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("it is ours");
    file
}

fn dataset(text: &str) -> Option<Arc<DatasetFile>> {
    Some(Arc::new(DatasetFile::read(file(text).path()).expect("a good file")))
}

#[tokio::test]
async fn prompts_begin_with_one_of_the_shared_prefixes() {
    let prefix = SharedPrefix { tokens: 20, count: 2 };
    let lengths = LengthLaws { prefix, ..laws(12, 3) };
    let bodies = bodies(|config| BenchConfig { lengths, ..config }).await;
    let mut beginnings: BTreeMap<Vec<&str>, BTreeSet<Vec<&str>>> = BTreeMap::new();
    for body in &bodies {
        let prompt = body["prompt"].as_str().expect("a text");
        let words: Vec<&str> = prompt.split(' ').collect();
        // The mock counts a token for each word and one more for each text.
        assert_eq!(words.len() + 1, 32, "{prompt}");
        let (beginning, own) = words.split_at(19);
        beginnings.entry(beginning.to_vec()).or_default().insert(own.to_vec());
    }
    assert_eq!(beginnings.len(), 2, "{beginnings:?}");
    assert_eq!(beginnings.values().map(BTreeSet::len).sum::<usize>(), 12, "own words differ");
}

#[tokio::test]
async fn a_turn_says_what_was_said_and_answered_before() {
    let lengths = LengthLaws { turns: 3, ..laws(5, 3) };
    let bodies = bodies(|config| BenchConfig { lengths, form: chat(), ..config }).await;
    let mut lengths: Vec<usize> = Vec::new();
    for body in &bodies {
        let messages = body["messages"].as_array().expect("a chat");
        lengths.push(messages.len());
        let roles = messages.iter().map(|message| message["role"].as_str().expect("a role"));
        let expected = ["user", "assistant"].into_iter().cycle().take(messages.len());
        assert!(roles.eq(expected), "{messages:?}");
        assert!(messages.iter().all(|message| message["content"] != ""), "{messages:?}");
        let goes_on = |other: &&Value| {
            let longer = other["messages"].as_array().expect("a chat");
            longer.len() == messages.len() + 2 && longer.starts_with(messages)
        };
        let next = bodies.iter().filter(goes_on).count();
        assert_eq!(next, usize::from(messages.len() < 5), "{messages:?}");
    }
    lengths.sort_unstable();
    assert_eq!(lengths, [1, 1, 1, 1, 3, 3, 3, 3, 5, 5, 5, 5]);
}

#[tokio::test]
async fn recorded_requests_are_sent_as_they_are() {
    let text: String = (0..12)
        .map(|n| format!("{{\"prompt\": \"text {n}\", \"output_tokens\": {}}}\n", n + 1))
        .collect();
    let open = LengthLaws { prompt: None, output: None, ..laws(1, 1) };
    let change = |config| BenchConfig { lengths: open, dataset: dataset(&text), ..config };
    let mut sent: Vec<(String, u64)> = (bodies(change).await.iter())
        .map(|body| (body["prompt"].to_string(), body["max_tokens"].as_u64().expect("a number")))
        .collect();
    sent.sort_by_key(|(_, tokens)| *tokens);
    let expected: Vec<_> = (0..12).map(|n| (format!("\"text {n}\""), n + 1)).collect();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_sharegpt_conversation_is_held_turn_by_turn() {
    let text = r#"[{"conversations": [{"from": "human", "value": "one"},
        {"from": "gpt", "value": "a b c"}, {"from": "human", "value": "two"},
        {"from": "gpt", "value": "d"}, {"from": "human", "value": "three"}]}]"#;
    let open = LengthLaws { prompt: None, output: None, turns: 2, ..laws(1, 1) };
    let bodies = bodies(|config| BenchConfig {
        lengths: open,
        dataset: dataset(text),
        form: chat(),
        ..config
    });
    for body in bodies.await {
        let messages = body["messages"].as_array().expect("a chat");
        assert_eq!(messages[0], json!({"role": "user", "content": "one"}));
        if let Some(last) = messages.get(2) {
            assert_eq!(last, &json!({"role": "user", "content": "two"}));
        }
        // As many as the recorded answer has: three words and one more, as the mock counts.
        assert_eq!((body["max_tokens"].as_u64(), messages.len() < 5), (Some(4), true));
    }
}

#[tokio::test]
async fn a_trace_is_sent_at_its_times_and_at_each_speed() {
    let text: String = [0, 40, 100]
        .map(|ms| format!("{{\"timestamp\": {ms}, \"input_length\": 9, \"output_length\": 2}}\n"))
        .concat();
    let trace = DatasetFile::read_trace(file(&text).path()).expect("a good file");
    let arrivals = [1.0, 2.0].map(|speed| Arrivals::Trace { span_s: 0.1 / speed, speed });
    let loads = Loads::Open {
        arrivals: arrivals.to_vec(),
        extent: Extent::Requests(3),
        max_connections: 8,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = MockServer::start(Behaviour::default()).await;
    let open = LengthLaws { prompt: None, output: None, ..laws(1, 1) };
    let outcome = run(BenchConfig {
        loads,
        lengths: open,
        dataset: Some(Arc::new(trace)),
        out: Some(folder.path().to_owned()),
        ..config(server.url(), &[], 1)
    });
    let outcome = outcome.await;
    assert!(outcome.is_success(), "{}", outcome.report);
    assert!(outcome.report.contains("Trace: 0.05 s at speed 2.00"), "{}", outcome.report);
    let lines = std::fs::read_to_string(folder.path().join("requests.jsonl")).expect("written");
    let mut due: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        let number = |name: &str| record[name].as_u64().expect("a number");
        due.entry(number("level")).or_default().push(number("due_ns"));
        assert_eq!((number("asked_prompt_tokens"), number("asked_tokens")), (9, 2));
    }
    let after = |level: u64| {
        let mut times = due[&level].clone();
        times.sort_unstable();
        times.iter().map(|ns| (ns - times[0]) / 1_000_000).collect::<Vec<_>>()
    };
    assert_eq!((after(1), after(2)), (vec![0, 40, 100], vec![0, 20, 50]));
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_before_anything_is_sent() {
    let nowhere = || config("http://127.0.0.1:1".to_owned(), &[1], 1);
    let chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}";
    let error = try_run(BenchConfig { dataset: dataset(chat), ..nowhere() }).await;
    assert!(matches!(error, Err(BenchError::Dataset { .. })), "{error:?}");
    for lengths in [
        LengthLaws { turns: 0, ..laws(1, 1) },
        LengthLaws { turns: 1001, ..laws(1, 1) },
        LengthLaws { prefix: SharedPrefix { tokens: 1, count: 0 }, ..laws(1, 1) },
        LengthLaws { prefix: SharedPrefix { tokens: 1, count: 10_001 }, ..laws(1, 1) },
    ] {
        let error = try_run(BenchConfig { lengths, ..nowhere() }).await;
        assert!(matches!(error, Err(BenchError::Setting { .. })), "{error:?}");
    }
    let loads = Loads::Open {
        arrivals: vec![Arrivals::Constant { rate: 1.0 }],
        extent: Extent::Requests(1),
        max_connections: 1,
    };
    let lengths = LengthLaws { turns: 2, ..laws(1, 1) };
    let error = try_run(BenchConfig { lengths, loads, ..nowhere() }).await;
    assert!(error.expect_err("no users").to_string().contains("give --levels"));
    let missing = DatasetFile::read(&PathBuf::from("nowhere.jsonl"));
    assert!(missing.expect_err("no file").to_string().contains("nowhere.jsonl"));
}
