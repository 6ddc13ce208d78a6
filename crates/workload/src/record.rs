//! What is kept of one request.

use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was answered to its end.
    Ok,
    /// It broke off, or its answer was an error or made no sense; the text says how.
    Failed(String),
    /// The server would not take it now (HTTP 429 or 503); the text is what it said. A failure too.
    Refused(String),
    /// The run was stopped while it was on its way.
    Cancelled,
    /// It was due but never sent, since too many others were on their way.
    Dropped,
}

impl Status {
    /// What went wrong, of a failed or refused request.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Status::Failed(message) | Status::Refused(message) => Some(message),
            Status::Ok | Status::Cancelled | Status::Dropped => None,
        }
    }
}

/// What the server itself says about the time of one request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerTimings {
    /// From arrival to the first step it took part in, milliseconds.
    pub queue_ms: Option<f64>,
    /// From there to its first token, milliseconds.
    pub prefill_ms: Option<f64>,
    /// From the first token to the last, milliseconds.
    pub decode_ms: Option<f64>,
    /// Prompt tokens that were found in the prefix cache.
    pub cached_prompt_tokens: Option<u32>,
}

/// A chunk of an answer that carried at least one generated token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenChunk {
    /// When the bytes that completed it had arrived.
    pub at_ns: u64,
    /// How many tokens it carried, if the server says.
    pub tokens: Option<u32>,
}

/// One request: who sent it, when what happened to it, and what came back.
///
/// All times are nanoseconds since one origin of the run, on a monotonic clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Which level of the run it belongs to, from 1.
    pub level: u32,
    /// Which user sent it, from 0; in an open loop each request has its own.
    pub user: u32,
    /// Which of the user's requests it is, from 0.
    pub index: u32,
    /// When it should have been sent: in a closed loop at the start of the level or the end of the
    /// request before, in an open one by the schedule.
    pub due_ns: u64,
    /// When its first byte was written; of one that was dropped, when that was decided.
    pub sent_ns: u64,
    /// When the first chunk that carries a generated token had arrived.
    pub first_token_ns: Option<u64>,
    /// When the last one had, or the chunk that says why generation ended, whichever was later: the
    /// last tokens may have no text to show.
    pub last_token_ns: Option<u64>,
    /// The longest time that a part of the answer lay in the client's machine before it was read:
    /// it is left out of the times above, but shows how busy the client was.
    pub client_delay_ns: u64,
    /// When the answer was over: read to its end, broken off, or given up.
    pub done_ns: u64,
    /// Tokens of the prompt, by the server's usage.
    pub prompt_tokens: Option<u32>,
    /// Generated tokens, by the server's usage.
    pub completion_tokens: Option<u32>,
    /// Generated tokens that were asked for; the most there may be if end tokens are not ignored.
    pub asked_tokens: u32,
    /// Prompt tokens that were aimed at; a given text has what it has.
    #[serde(default)]
    pub asked_prompt_tokens: Option<u32>,
    /// The chunks that carried generated tokens, in the order in which they came.
    pub chunks: Vec<TokenChunk>,
    /// Why generation ended, in the server's word.
    pub finish_reason: Option<String>,
    /// How the request ended.
    pub status: Status,
    /// The server's own times, if it gave them.
    pub timings: Option<ServerTimings>,
}

impl RequestRecord {
    /// Whether it was answered to its end.
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }

    /// Time to first token: from the first byte sent to the first token read, milliseconds.
    pub fn ttft_ms(&self) -> Option<f64> {
        Some(milliseconds(self.sent_ns, self.first_token_ns?))
    }

    /// From the first byte sent to the last token read, milliseconds.
    pub fn latency_ms(&self) -> Option<f64> {
        Some(milliseconds(self.sent_ns, self.last_token_ns?))
    }

    /// Generated tokens: the server's count, or the number of chunks if it gave none.
    pub fn tokens(&self) -> u32 {
        self.completion_tokens.unwrap_or(self.chunks.len() as u32)
    }

    /// Time per output token after the first, milliseconds. `None` below two tokens.
    pub fn tpot_ms(&self) -> Option<f64> {
        let later = self.tokens().checked_sub(1).filter(|later| 1 <= *later)?;
        Some((self.latency_ms()? - self.ttft_ms()?) / f64::from(later))
    }

    /// Time to first token as its user saw it: from when it was due, milliseconds.
    pub fn ttft_user_ms(&self) -> Option<f64> {
        Some(milliseconds(self.due_ns, self.first_token_ns?))
    }

    /// From when it was due to the last token read, milliseconds.
    pub fn latency_user_ms(&self) -> Option<f64> {
        Some(milliseconds(self.due_ns, self.last_token_ns?))
    }

    /// How much later than due it was sent, milliseconds.
    pub fn lag_ms(&self) -> f64 {
        milliseconds(self.due_ns, self.sent_ns)
    }

    /// Generated tokens over the latency, tokens per second: the rate that its user got, the wait
    /// for the first token included.
    pub fn user_rate(&self) -> Option<f64> {
        let latency_ms = self.latency_ms().filter(|ms| 0.0 < *ms)?;
        Some(1000.0 * f64::from(self.tokens()) / latency_ms)
    }

    /// Whether it went out at all.
    pub fn was_sent(&self) -> bool {
        self.status != Status::Dropped
    }

    /// Whether a server generated at least one token for it.
    pub fn has_tokens(&self) -> bool {
        self.first_token_ns.is_some()
    }

    /// Time in the server's queue, milliseconds.
    pub fn queue_ms(&self) -> Option<f64> {
        self.timings?.queue_ms
    }
}

/// Milliseconds from `start_ns` to `end_ns`; 0 if the end is not later.
pub fn milliseconds(start_ns: u64, end_ns: u64) -> f64 {
    end_ns.saturating_sub(start_ns) as f64 / 1e6
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A successful request of 11 tokens with the given times in milliseconds.
    ///
    /// Its tokens come in eleven chunks at equal distances.
    pub(crate) fn answered(user: u32, index: u32, times_ms: [u64; 3]) -> RequestRecord {
        let [sent, first, last] = times_ms.map(|ms| ms * 1_000_000);
        RequestRecord {
            level: 1,
            user,
            index,
            due_ns: sent,
            sent_ns: sent,
            first_token_ns: Some(first),
            last_token_ns: Some(last),
            client_delay_ns: 0,
            done_ns: last,
            prompt_tokens: Some(5),
            completion_tokens: Some(11),
            asked_tokens: 11,
            asked_prompt_tokens: Some(5),
            chunks: (0..11).map(|n| chunk(first + (last - first) * n / 10)).collect(),
            finish_reason: Some("length".to_owned()),
            status: Status::Ok,
            timings: None,
        }
    }

    pub(crate) fn chunk(at_ns: u64) -> TokenChunk {
        TokenChunk { at_ns, tokens: Some(1) }
    }

    #[test]
    fn times_are_taken_from_the_first_byte_sent() {
        let record = answered(0, 0, [100, 130, 230]);
        assert_eq!(record.ttft_ms(), Some(30.0));
        assert_eq!(record.latency_ms(), Some(130.0));
        assert_eq!(record.tpot_ms(), Some(10.0));
    }

    #[test]
    fn one_token_has_no_time_per_later_token() {
        let mut record = answered(0, 0, [100, 130, 130]);
        record.completion_tokens = Some(1);
        assert_eq!(record.tpot_ms(), None);
    }

    #[test]
    fn chunks_stand_in_for_a_missing_usage() {
        let mut record = answered(0, 0, [0, 1, 2]);
        record.completion_tokens = None;
        record.chunks.truncate(9);
        assert_eq!(record.tokens(), 9);
    }

    #[test]
    fn a_record_is_one_json_object() {
        let mut record = answered(1, 2, [0, 1, 2]);
        record.status = Status::Failed("HTTP 429".to_owned());
        let line = serde_json::to_string(&record).expect("plain data");
        assert!(line.contains(r#""status":{"failed":"HTTP 429"}"#) && !line.contains('\n'));
        assert_eq!(serde_json::from_str::<RequestRecord>(&line).expect("the same"), record);
    }
}
