//! Server-sent events, as the HTML standard defines them, read from a whole body.

use std::borrow::Cow;

/// One event of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// Its `data` lines, joined by line feeds.
    pub(crate) data: Cow<'a, [u8]>,
    /// Offset of the byte after it: it was complete when this many bytes had come.
    pub(crate) end: usize,
}

/// The events of `body`. Comments, other fields and events without data are passed over; lines end
/// with CR LF, LF or CR. An event that the end of the body cuts short is given too, so that a
/// server which forgets the last blank line is understood.
pub(crate) fn events(body: &[u8]) -> Events<'_> {
    let at = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    Events { body, at }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// See [`events`].
#[derive(Debug)]
pub(crate) struct Events<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Events<'a> {
    /// The next line without its end; `None` at the end of the body.
    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = &self.body[self.at..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let Some(length) = length else {
            self.at = self.body.len();
            return Some(rest);
        };
        let end = if rest[length..].starts_with(b"\r\n") { 2 } else { 1 };
        self.at += length + end;
        Some(&rest[..length])
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let mut data: Option<Cow<'a, [u8]>> = None;
        while let Some(line) = self.line() {
            if line.is_empty() && data.is_some() {
                break;
            }
            let Some(value) = data_field(line) else { continue };
            data = Some(match data.take() {
                None => Cow::Borrowed(value),
                Some(before) => Cow::Owned([&before, value].join(&b'\n')),
            });
        }
        data.map(|data| Event { data, end: self.at })
    }
}

/// The value of a `data` line, without the one space that may follow the colon.
fn data_field(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    match rest.split_first() {
        None => Some(rest),
        Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &[(&str, usize)]) {
        let found: Vec<_> = events(body.as_bytes())
            .map(|event| (String::from_utf8(event.data.into_owned()).expect("text"), event.end))
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(data, end)| (data.to_string(), *end)).collect();
        assert_eq!(found, expected, "{body:?}");
    }

    #[test]
    fn events_end_at_a_blank_line() {
        check("data: a\n\ndata: [DONE]\n\n", &[("a", 9), ("[DONE]", 23)]);
        check("data:a\n\n\n\n", &[("a", 8)]);
        check("data:  two spaces\n\n", &[(" two spaces", 19)]);
        check("", &[]);
    }

    #[test]
    fn every_kind_of_line_end_is_understood() {
        check("data: a\r\n\r\ndata: b\r\n\r\n", &[("a", 11), ("b", 22)]);
        check("data: a\r\rdata: b\r\r", &[("a", 9), ("b", 18)]);
    }

    #[test]
    fn comments_and_other_fields_are_passed_over() {
        check(": keep-alive\n\nevent: token\nid: 7\ndata: a\n\nretry: 1\n\n", &[("a", 42)]);
        check("database: no\n\ndata\n\n", &[("", 20)]);
    }

    #[test]
    fn several_data_lines_are_one_event() {
        check("data: {\ndata: }\n: between\ndata: x\n\n", &[("{\n}\nx", 35)]);
    }

    #[test]
    fn a_byte_order_mark_and_a_missing_last_blank_line_do_no_harm() {
        check("\u{feff}data: a\n\ndata: b", &[("a", 12), ("b", 19)]);
    }
}
