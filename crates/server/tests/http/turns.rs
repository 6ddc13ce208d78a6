//! Work that is done in turns, beside the threads of the network: here by one thread, which a test can keep
//! busy.

use serde_json::json;
use server::limits::{GRAMMAR_TIMEOUT, GRAMMARS_AT_ONCE, INLINE_BODY_BYTES, LARGE_BODIES};
use tokio::time::{advance, resume};

use crate::harness::Setup;
use crate::room::{COUNT, TOKEN_BYTES, ask, body_of, fits, start, take_all_but, wait_until_fits};
use crate::silence::{keep_a_thread_busy, stop_the_clock};
use crate::slow::{A_MOMENT, connect, rest};

/// Runs `test` where one thread does all that is done beside the network's.
fn with_one_thread(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(test);
}

/// Bytes of a large body.
const LARGE: usize = 27_500;

#[test]
fn one_large_body_is_read_at_a_time_and_the_others_wait_for_it() {
    with_one_thread(async {
        let (server, _gate) = start().await;
        let _first = take_all_but(&server, 3).await;
        let thread = keep_a_thread_busy();
        let all = 3 * TOKEN_BYTES;
        let large = [(); 3].map(|()| ask(&server, COUNT, &body_of(LARGE)));
        // Until they have come. Small ones are read meanwhile.
        let left = all - 3 * LARGE;
        wait_until_fits(&server, false, left + 1).await;
        assert!(fits(&server, COUNT, &body_of(left)).await);
        // Those that wait are forgotten when their clients leave. One has had its turn: it is read to its end.
        large.iter().for_each(|asked| asked.abort());
        wait_until_fits(&server, true, INLINE_BODY_BYTES).await;
        let left = all - LARGE_BODIES * LARGE;
        assert!(!fits(&server, COUNT, &body_of(left + 1)).await);
        let waits = ask(&server, COUNT, &body_of(left));
        drop(thread);
        assert_eq!(waits.await.unwrap().unwrap().reply().await.status, 200);
        assert!(fits(&server, COUNT, &body_of(all)).await);
    });
}

#[test]
fn a_grammar_waits_ten_seconds_for_its_turn_and_as_long_to_be_compiled() {
    with_one_thread(async {
        let server = Setup::new().start().await;
        let thread = stop_the_clock();
        let body = |digits: usize| json!({"prompt": "ab", "temperature": 0, "guided_regex": format!("[0-9]{{{digits}}}")});
        let mut asked = Vec::new();
        for digits in 1..=GRAMMARS_AT_ONCE + 1 {
            let body = body(digits).to_string();
            let head = format!(
                "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let mut stream = connect(&server, &(head + &body)).await;
            asked.push(tokio::spawn(async move { rest(&mut stream).await }));
        }
        advance(GRAMMAR_TIMEOUT - A_MOMENT).await;
        server.get("/live").await;
        assert!(asked.iter().all(|asked| !asked.is_finished()), "there is time left");
        advance(2 * A_MOMENT).await;
        let (mut refused, mut told) = (Vec::new(), String::new());
        for reply in asked {
            told = reply.await.unwrap();
            refused.push(told["HTTP/1.1 ".len()..][..3].to_owned());
        }
        // As many as may be had their turn; the other one hears that there are too many.
        assert_eq!(refused, ["400", "400", "503"]);
        assert!(
            told.contains("retry-after: 1\r\n") && told.contains("too many grammars"),
            "{told}"
        );
        drop(thread);
        resume();
        let reply = server.post("/v1/completions", &body(3)).await;
        assert_eq!(reply.json()["choices"][0]["text"], "000");
    });
}
