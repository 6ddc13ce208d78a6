use super::*;

/// An answer whose pieces came at 1 ms, 2 ms and so on.
fn answer(pieces: &[&str]) -> RawAnswer {
    let mut answer = RawAnswer { status: Some(200), ..RawAnswer::default() };
    for (index, piece) in pieces.iter().enumerate() {
        answer.bytes.extend_from_slice(piece.as_bytes());
        answer.reads.push((1_000_000 * (index as u64 + 1), answer.bytes.len()));
    }
    answer
}

fn ok(pieces: &[&str]) -> Reading {
    let (reading, status) = read(&answer(pieces));
    assert_eq!(status, Status::Ok, "{pieces:?}");
    reading
}

fn failed(answer: &RawAnswer) -> String {
    match read(answer).1 {
        Status::Failed(message) | Status::Refused(message) => message,
        other => panic!("{other:?}"),
    }
}

fn stamps_ms(reading: &Reading) -> (Option<u64>, Option<u64>) {
    let ms = |ns: Option<u64>| ns.map(|ns| ns / 1_000_000);
    (ms(reading.first_token_ns), ms(reading.last_token_ns))
}

const TEXT: &str =
    "data: {\"choices\":[{\"text\":\" a\",\"finish_reason\":null}],\"usage\":null}\n\n";
const EMPTY: &str = "data: {\"choices\":[{\"text\":\"\"}]}\n\n";
const ROLE: &str =
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}]}\n\n";
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn times_are_those_of_the_first_and_the_last_token() {
    let reading = ok(&["data: {\"choices\":null}\n\n", TEXT, TEXT, FINISH, USAGE, DONE]);
    assert_eq!(stamps_ms(&reading), (Some(2), Some(4)));
    assert_eq!((reading.prompt_tokens, reading.completion_tokens), (Some(5), Some(3)));
    assert_eq!((reading.chunks.len(), reading.finish_reason.as_deref()), (2, Some("length")));
}

#[test]
fn a_chunk_without_text_is_not_the_first_token() {
    assert_eq!(stamps_ms(&ok(&[ROLE, EMPTY, TEXT, FINISH, DONE])), (Some(3), Some(4)));
}

#[test]
fn a_rising_count_tells_of_a_token_without_text() {
    let counted = |n: u32| {
        format!(
            "data: {{\"choices\":[{{\"text\":\"\"}}],\"usage\":{{\"completion_tokens\":{n}}}}}\n\n"
        )
    };
    let reading = ok(&[&counted(0), &counted(1), &counted(2), FINISH, DONE]);
    assert_eq!(stamps_ms(&reading), (Some(2), Some(4)));
    assert_eq!((reading.chunks.len(), reading.completion_tokens), (2, Some(2)));
}

#[test]
fn tokens_that_never_had_text_came_with_the_first_chunk() {
    assert_eq!(stamps_ms(&ok(&[ROLE, EMPTY, EMPTY, FINISH, USAGE, DONE])), (Some(2), Some(4)));
}

#[test]
fn chat_reasoning_and_tool_calls_are_tokens() {
    for delta in [
        r#"{"content":"a"}"#,
        r#"{"reasoning_content":"a"}"#,
        r#"{"reasoning":"a"}"#,
        r#"{"tool_calls":[{"index":0}]}"#,
    ] {
        let chunk = format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\n");
        assert_eq!(stamps_ms(&ok(&[ROLE, &chunk, FINISH, DONE])), (Some(2), Some(3)), "{delta}");
    }
}

#[test]
fn an_event_counts_from_the_read_that_completed_it_wherever_the_cuts_are() {
    let whole = [": hello\r\n\r\n", TEXT, FINISH, DONE].concat().replace('\n', "\r\n");
    let text_end =
        whole.find("\"usage\":null}").expect("the first chunk") + "\"usage\":null}".len();
    for cut in 1..whole.len() {
        let (reading, status) = read(&answer(&[&whole[..cut], &whole[cut..]]));
        assert_eq!(status, Status::Ok);
        let complete_in_first = text_end + "\r\n\r\n".len() <= cut;
        assert!(reading.chunks.len() == 1 && stamps_ms(&reading).1.is_some());
        if complete_in_first {
            assert_eq!(stamps_ms(&reading).0, Some(1), "cut at {cut}");
        } else if cut <= text_end {
            assert_eq!(stamps_ms(&reading).0, Some(2), "cut at {cut}");
        }
    }
}

#[test]
fn server_times_are_read_by_every_known_name() {
    let timed = |timings: &str| {
        let last = format!("data: {{\"choices\":[],\"timings\":{timings}}}\n\n");
        ok(&[TEXT, FINISH, &last, DONE]).timings.expect("times were given")
    };
    let ours = timed(r#"{"queue_ms":1.5,"prefill_ms":2,"decode_ms":3,"cached_prompt_tokens":4}"#);
    assert_eq!((ours.queue_ms, ours.prefill_ms, ours.decode_ms), (Some(1.5), Some(2.0), Some(3.0)));
    assert_eq!(ours.cached_prompt_tokens, Some(4));
    let llama = timed(r#"{"prompt_n":9,"prompt_ms":2.5,"predicted_ms":3.5,"cache_n":1}"#);
    assert_eq!((llama.queue_ms, llama.prefill_ms), (None, Some(2.5)));
    let cached =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\n";
    let reading = ok(&[TEXT, FINISH, cached, DONE]);
    assert_eq!(reading.timings.and_then(|timings| timings.cached_prompt_tokens), Some(8));
}

#[test]
fn a_refusal_is_told_with_its_status_and_text() {
    let mut refused = answer(&["{\"error\":\n  {\"message\":\"queue full\"}}"]);
    refused.status = Some(429);
    assert!(matches!(read(&refused).1, Status::Refused(_)));
    assert_eq!(failed(&refused), "HTTP 429: {\"error\": {\"message\":\"queue full\"}}");
}

#[test]
fn an_error_in_the_stream_fails_the_request() {
    let error = "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n";
    assert_eq!(failed(&answer(&[TEXT, error, DONE])), "error in the stream: out of memory");
}

#[test]
fn what_is_broken_or_empty_is_never_a_success() {
    assert!(failed(&answer(&[TEXT])).contains("without [DONE]"));
    assert!(failed(&answer(&["data: {\"choices\":"])).contains("unreadable chunk"));
    assert!(failed(&answer(&["{\"choices\":[]}"])).contains("without [DONE]"));
    assert!(failed(&answer(&[DONE])).contains("no token"));
    assert!(failed(&answer(&[FINISH, DONE])).contains("no token"));
    assert!(failed(&RawAnswer::default()).contains("no answer"));
    let mut broken = answer(&[TEXT, TEXT]);
    broken.broken = Some("the answer broke off: reset".to_owned());
    assert_eq!(failed(&broken), "the answer broke off: reset");
}
