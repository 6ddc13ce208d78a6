use super::*;

fn items(text: &str) -> Vec<Item> {
    Dataset::parse(text).expect("a good example").items
}

fn error(text: &str) -> String {
    Dataset::parse(text).expect_err("it is refused").to_string()
}

#[test]
fn json_lines_are_prompts_chats_or_lengths() {
    let found = items(
        "{\"prompt\": \"why \\\"so\\\"?\", \"output_tokens\": 7, \"unknown\": [1]}\n\n\
         {\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}\r\n\
         {\"timestamp\": 1500, \"input_length\": 6955, \"output_length\": 52, \"hash_ids\": [46]}\n\
         {\"timestamp_s\": 2.5, \"prompt_tokens\": 3}",
    );
    let item = |prompt, output, at_ns, line| Item { prompt, output, at_ns, line };
    let expected = [
        item(Prompt::Text("why \"so\"?".to_owned()), Output::Tokens(7), None, 1),
        item(Prompt::Messages(vec![Message::user("hi".to_owned())]), Output::Unsaid, None, 3),
        item(Prompt::Tokens(6955), Output::Tokens(52), Some(1_500_000_000), 4),
        item(Prompt::Tokens(3), Output::Unsaid, Some(2_500_000_000), 5),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_sharegpt_list_gives_the_users_turns_and_the_first_answers_length() {
    let dataset = Dataset::parse(
        r#"[{"id": "a", "conversations": [{"from": "system", "value": "s"},
            {"from": "human", "value": "one"}, {"from": "gpt", "value": "1"},
            {"from": "human", "value": "two"}, {"from": "gpt", "value": "2"}]},
           {"id": "b", "conversations": [{"from": "gpt", "value": "alone"}]},
           {"id": "c", "conversations": []}]"#,
    );
    let dataset = dataset.expect("a good example");
    assert_eq!((dataset.items.len(), dataset.skipped), (1, 2));
    let turns = vec!["one".to_owned(), "two".to_owned()];
    assert_eq!(dataset.items[0].prompt, Prompt::Turns(turns));
    assert_eq!(dataset.items[0].output, Output::AsLongAs("1".to_owned()));
}

#[test]
fn what_cannot_be_understood_is_refused_with_its_line() {
    for (text, parts) in [
        ("", ["no requests", "0 records"]),
        ("{\"prompt\": \"\"}", ["no requests", "1 record"]),
        ("{\"prompt\": \"a\"}\n{\"prompt\"}", ["line 2", "expected `:`"]),
        ("{\"prompt\": \"a\"}\n\n{\"text\": \"a\"}", ["line 3", "`prompt_tokens`"]),
        ("{\"prompt_tokens\": -1}", ["line 1", "integer `-1`"]),
        ("{\"prompt_tokens\": 99999999}", ["line 1", "at most 1048576"]),
        ("{\"prompt_tokens\": 1, \"input_length\": 1}", ["line 1", "duplicate"]),
        ("{\"prompt_tokens\": 1, \"timestamp\": -5}", ["line 1", "-0.005 s"]),
        ("{\"prompt_tokens\": 1, \"timestamp\": 1, \"timestamp_s\": 1}", ["line 1", "in ms and"]),
        ("[{\"prompt\": \"a\"},\n 7]", ["line 2", "invalid type"]),
        ("[{\"prompt\": \"a\"}, {}]", ["record 2", "neither"]),
        ("[[[[", ["line 1", "invalid type"]),
        ("no json", ["line 1", "expected"]),
    ] {
        for part in parts {
            assert!(error(text).contains(part), "{text}: {}", error(text));
        }
    }
    let deep = format!("{{\"x\": {}", "[".repeat(100_000));
    assert!(error(&deep).contains("line 1"), "no stack overflow");
}

#[test]
fn each_request_is_sent_once_in_an_order_of_the_seed() {
    let text: String = (1..=50).map(|n| format!("{{\"prompt_tokens\": {n}}}\n")).collect();
    let dataset = Dataset::parse(&text).expect("a good example");
    let mut order = dataset.order(3);
    assert_eq!(order, dataset.order(3));
    assert_ne!(order, dataset.order(4));
    order.sort_unstable();
    assert_eq!(order, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_trace_is_sorted_and_begins_with_its_first_request() {
    let text = "{\"timestamp\": 3000, \"prompt_tokens\": 3}\n{\"timestamp\": 1000, \"prompt_tokens\": 1}\n\
                {\"timestamp\": 1000, \"prompt_tokens\": 2}\n";
    let trace = Dataset::parse(text).expect("a good example").into_trace().expect("all have times");
    assert_eq!(trace.schedule_ns(1.0), [0, 0, 2_000_000_000]);
    assert_eq!(trace.schedule_ns(4.0), [0, 0, 500_000_000]);
    let items = trace.into_dataset().items;
    let prompts: Vec<_> = items.into_iter().map(|item| item.prompt).collect();
    assert_eq!(prompts, [1, 2, 3].map(Prompt::Tokens));
    let timeless =
        Dataset::parse("{\"timestamp\": 1, \"prompt_tokens\": 3}\n{\"prompt_tokens\": 1}");
    assert_eq!(timeless.expect("a good example").into_trace(), Err(2));
}
