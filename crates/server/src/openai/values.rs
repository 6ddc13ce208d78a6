//! How many values a body may hold, counted before it is parsed.

use crate::limits::BODY_VALUES;
use crate::openai::error::ApiError;

/// Refuses a body of more values than [`BODY_VALUES`]: what a parser makes of a value of two bytes
/// may take a hundred.
///
/// Counted are the signs that values stand behind, outside of strings, so that it is never less
/// than what a parser finds. What is not JSON is left to the parser.
pub fn check_count(body: &[u8]) -> Result<(), ApiError> {
    // Each value takes a sign of its own, so an ordinary body need not be looked at.
    if body.len() <= BODY_VALUES || count(body) <= BODY_VALUES {
        return Ok(());
    }
    let message =
        format!("the body holds more than {BODY_VALUES} values; send less in one request");
    Err(ApiError::Invalid { param: None, message })
}

fn count(body: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (1, false, false);
    for byte in body {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else {
            in_string = *byte == b'"';
            values += usize::from(matches!(byte, b'[' | b'{' | b','));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (body, values) in [
            ("", 1),
            ("5", 1),
            ("[1,2,[3]]", 5),
            (r#"{"a":1,"b":{"c,[{":"d,\\"}}"#, 4),
            (r#"["\",[,\\",1]"#, 3),
            (r#"["open,,,,"#, 2),
        ] {
            assert_eq!(count(body.as_bytes()), values, "{body}");
        }
    }

    #[test]
    fn the_last_count_within_the_limit_passes_and_the_next_does_not() {
        // A list of as many zeros takes one sign for the list and one for each but the first.
        let zeros = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        check_count(zeros(BODY_VALUES - 1).as_bytes()).expect("as many as may be");
        let error = check_count(zeros(BODY_VALUES).as_bytes()).expect_err("one more");
        assert_eq!(
            error.to_string(),
            "the body holds more than 524288 values; send less in one request"
        );
    }
}
