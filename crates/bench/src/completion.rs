//! The body of a `/v1/completions` request.

use bytes::Bytes;
use serde::Serialize;
use workload::lengths::Sampling;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    prompt: &'a str,
    max_tokens: u32,
    ignore_eos: bool,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(flatten)]
    sampling: Sampling,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// A streamed completion of exactly `tokens` tokens, end tokens ignored, as JSON.
pub(crate) fn body(model: &str, prompt: &str, tokens: u32, sampling: Sampling) -> Bytes {
    let stream_options = StreamOptions { include_usage: true };
    let body = Body {
        model,
        prompt,
        max_tokens: tokens,
        ignore_eos: true,
        stream: true,
        stream_options,
        sampling,
    };
    Bytes::from(serde_json::to_vec(&body).expect("plain data with text keys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_sent_under_its_name() {
        let sampling =
            Sampling { temperature: 1.0, top_p: 0.8, top_k: 30, repetition_penalty: 10.0 };
        let body = body("m", "river \"stone\"", 7, sampling);
        assert_eq!(
            std::str::from_utf8(&body).expect("text"),
            r#"{"model":"m","prompt":"river \"stone\"","max_tokens":7,"ignore_eos":true,"#
                .to_owned()
                + r#""stream":true,"stream_options":{"include_usage":true},"temperature":1.0,"#
                + r#""top_p":0.8,"top_k":30,"repetition_penalty":10.0}"#
        );
    }
}
