use std::collections::BTreeSet;

use workload::distribution::Distribution;
use workload::lengths::SharedPrefix;
use workload::load::Arrivals;
use workload::record::RequestRecord;

use super::*;
use crate::simulate::{SimulateError, Sweep, tests::SERVER};

/// A token for each word, from its length.
struct Words;

impl Tokens for Words {
    fn of_text(&self, text: &str) -> Result<Vec<u32>, String> {
        if text.contains('#') {
            return Err("a # cannot be spelt".to_owned());
        }
        Ok(text.split_whitespace().map(|word| word.len() as u32).collect())
    }

    fn of_chat(&self, messages: &[Message]) -> Result<Vec<u32>, String> {
        let ids = messages.iter().map(|message| self.of_text(&message.content));
        let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
        Ok([vec![99], ids.concat()].concat())
    }
}

/// Lengths are those of the data set.
fn laws(turns: u32) -> LengthLaws {
    let prefix = SharedPrefix::default();
    LengthLaws { prompt: None, output: None, prefix, turns, ignore_eos: true }
}

fn asked(
    file: &str,
    (load, laws): (Load, LengthLaws),
    tokens: Option<&dyn Tokens>,
) -> Result<Vec<RequestRecord>, SimulateError> {
    let dataset = Dataset::parse(file).expect("a good file");
    let order = (0..dataset.items.len()).collect();
    let recording = Recording::new(&dataset, order, Vec::new(), tokens);
    let levels = vec![LevelPlan { load, lengths: laws }];
    let runs = SERVER.run(&Sweep { levels, seed: 7, recording: Some(&recording) })?;
    Ok(runs.into_iter().flat_map(|run| run.records).collect())
}

/// Tokens of the prompt, those of it that the prefix cache had, tokens of the answer.
fn seen(records: &[RequestRecord]) -> Vec<(u32, u32, u32)> {
    let of = |record: &RequestRecord| {
        let cached = record.timings.and_then(|timings| timings.cached_prompt_tokens);
        let all = (record.prompt_tokens, cached, record.completion_tokens);
        (all.0.expect("ok"), all.1.expect("ok"), all.2.expect("ok"))
    };
    records.iter().map(of).collect()
}

#[test]
fn lengths_are_asked_in_turn_and_from_the_beginning_again() {
    let file = "{\"input_length\": 40, \"output_length\": 5}\n{\"input_length\": 20}\n";
    let records = asked(file, (Load::closed(1, 3), laws(1)), None).expect("lengths suffice");
    assert_eq!(seen(&records), [(40, 0, 5), (20, 0, 128), (40, 0, 5)]);
    let fixed = LengthLaws { output: Some(Distribution::fixed(9.0)), ..laws(1) };
    let records = asked(file, (Load::closed(1, 2), fixed), None).expect("lengths suffice");
    assert_eq!(seen(&records), [(40, 0, 9), (20, 0, 9)]);
}

#[test]
fn a_later_level_goes_on_where_the_one_before_ended() {
    let file = "{\"prompt_tokens\": 10}\n{\"prompt_tokens\": 20}\n{\"prompt_tokens\": 30}\n";
    let dataset = Dataset::parse(file).expect("a good file");
    let recording = Recording::new(&dataset, vec![2, 0, 1], Vec::new(), None);
    let level = LevelPlan { load: Load::closed(1, 2), lengths: laws(1) };
    let sweep = Sweep { levels: vec![level.clone(), level], seed: 1, recording: Some(&recording) };
    let runs = SERVER.run(&sweep).expect("lengths suffice");
    let prompts = runs.iter().flat_map(|run| &run.records).map(|record| record.prompt_tokens);
    assert_eq!(prompts.collect::<Vec<_>>(), [Some(30), Some(10), Some(20), Some(30)]);
}

#[test]
fn texts_are_as_long_as_the_tokenizer_says_and_begin_alike_where_they_do() {
    let shared: String = (0..40).map(|n| format!("{} ", "x".repeat(n % 9 + 1))).collect();
    let line = |end: &str| format!("{{\"prompt\": \"{shared}{end}\", \"output_tokens\": 3}}\n");
    let file = line("a b") + &line("aa b c");
    let records = asked(&file, (Load::closed(1, 2), laws(1)), Some(&Words)).expect("texts");
    // Two whole blocks of 16 are the same.
    assert_eq!(seen(&records), [(42, 0, 3), (43, 32, 3)]);
    let chat = r#"{"messages": [{"role": "user", "content": "one two"}], "max_tokens": 2}"#;
    let records = asked(chat, (Load::closed(1, 1), laws(1)), Some(&Words)).expect("a chat");
    assert_eq!(seen(&records), [(3, 0, 2)]);
}

#[test]
fn conversations_have_as_many_turns_as_are_asked_for() {
    let file = r#"[{"conversations": [{"from": "human", "value": "one two three"},
        {"from": "gpt", "value": "four five"}, {"from": "human", "value": "six"},
        {"from": "gpt", "value": "seven"}]}]"#;
    let records = asked(file, (Load::closed(1, 3), laws(2)), Some(&Words)).expect("texts");
    // The second turn says 3 + 2 + 1 tokens; the third request opens the conversation again.
    assert_eq!(seen(&records), [(3, 0, 2), (6, 0, 2), (3, 0, 2)]);
    let records = asked(file, (Load::closed(1, 2), laws(1)), Some(&Words)).expect("texts");
    assert_eq!(seen(&records), [(3, 0, 2), (3, 0, 2)]);
}

#[test]
fn a_trace_is_asked_at_its_times() {
    let file = "{\"timestamp\": 9000, \"prompt_tokens\": 10, \"output_tokens\": 2}\n\
                {\"timestamp\": 5000, \"prompt_tokens\": 20, \"output_tokens\": 2}\n";
    let trace = Dataset::parse(file).expect("a good file").into_trace().expect("times");
    let times = trace.schedule_ns(1.0);
    let dataset = trace.into_dataset();
    let recording = Recording::new(&dataset, vec![0, 1], times, None);
    let level = |speed| {
        let arrivals = Arrivals::Trace { span_s: 4.0 / speed, speed };
        LevelPlan { load: Load::Open { arrivals, requests: 2 }, lengths: laws(1) }
    };
    let sweep =
        Sweep { levels: vec![level(1.0), level(4.0)], seed: 1, recording: Some(&recording) };
    let runs = SERVER.run(&sweep).expect("lengths suffice");
    for (run, distance_s) in runs.iter().zip([4, 1]) {
        let [first, second] = &run.records[..] else { panic!("two requests") };
        assert_eq!((first.prompt_tokens, second.prompt_tokens), (Some(20), Some(10)));
        assert_eq!(second.due_ns - first.due_ns, distance_s * 1_000_000_000);
    }
}

#[test]
fn requests_that_do_not_fit_are_left_out() {
    let file = "{\"prompt_tokens\": 200, \"output_tokens\": 57}\n\
                {\"prompt_tokens\": 200, \"output_tokens\": 56}\n";
    let records = asked(file, (Load::closed(1, 2), laws(1)), None).expect("one fits");
    assert_eq!(seen(&records), [(200, 0, 56), (200, 0, 56)]);
    let long = "{\"prompt_tokens\": 200, \"output_tokens\": 57}\n";
    let refused = asked(long, (Load::closed(1, 2), laws(1)), None).expect_err("none fits");
    let why = "each of the 1 recorded requests needs more than 256 tokens";
    assert_eq!(refused.to_string(), why);
    let with_prefix = LengthLaws { prefix: SharedPrefix { tokens: 1, count: 1 }, ..laws(1) };
    let refused = asked(file, (Load::closed(1, 1), with_prefix), None).expect_err("none fits");
    assert!(matches!(refused, SimulateError::Recording(RecordingError::TooLong { .. })));
}

#[test]
fn a_text_without_a_tokenizer_is_refused_with_what_to_do() {
    let file = "{\"prompt_tokens\": 3}\n{\"prompt\": \"a\"}\n";
    let refused = asked(file, (Load::closed(1, 2), laws(1)), None).expect_err("no tokenizer");
    let text = refused.to_string();
    assert!(text.starts_with("request 2 is a text") && text.contains("--model"), "{text}");
    let odd = "{\"prompt\": \"#\"}\n";
    let refused = asked(odd, (Load::closed(1, 1), laws(1)), Some(&Words)).expect_err("a #");
    assert_eq!(refused.to_string(), "request 1 cannot be made into tokens: a # cannot be spelt");
}

#[test]
fn the_same_recording_gives_the_same_run() {
    let file: String = (1..40).map(|n| format!("{{\"prompt_tokens\": {n}}}\n")).collect();
    let runs: BTreeSet<String> = (0..2)
        .map(|_| {
            let records = asked(&file, (Load::closed(4, 9), laws(1)), None).expect("lengths");
            serde_json::to_string(&records).expect("plain data")
        })
        .collect();
    assert_eq!(runs.len(), 1);
}
