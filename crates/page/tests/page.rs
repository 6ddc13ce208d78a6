//! The page as text: what it says, how large it is, what it must never hold.

mod simulated;

use workload::language::Language;

use simulated::{Run, SEED, SMALL, hostile, scheduled, silent};

#[test]
fn the_seeds_protocol_is_explained_in_half_a_megabyte() {
    let html = Run::of(SEED).html();
    assert!(html.len() < 500_000, "{} bytes", html.len());
    for words in [
        "the server ran at most 50 requests at a time",
        "14 of 64 users were always waiting",
        "about one whole service time",
        "So the median request is one that did not wait",
        "64 users are more than the 50 sequences that run at once",
        "50 ran in",
        "84 waited 15.",
        "All answers are equally long",
    ] {
        assert!(html.contains(words), "`{words}` is missing");
    }
}

/// What is to be read in the body: markup, what a button holds for later, and the report's own form
/// taken away.
fn readable(html: &str) -> String {
    let body = html.split_once("<body").expect("a body").1;
    let pieces = body.split('<').filter_map(|piece| Some(piece.split_once('>')?.1));
    pieces.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_chinese_page_has_the_same_charts_in_chinese_words() {
    let run = Run::of(SEED);
    let [english, chinese] = [Language::English, Language::Chinese].map(|l| run.html_in(l));
    assert!(chinese.contains("<html lang=\"zh\">") && english.contains("<html lang=\"en\">"));
    for mark in ["<rect", "<path", "<figure", "<circle", "<line", "<table"] {
        assert_eq!(chinese.matches(mark).count(), english.matches(mark).count(), "{mark}");
    }
    for words in [
        "服务器最多同时运行 50 个请求，因此 64 个用户中始终有 14 个在等待位置",
        "因此中位数的请求没有等待",
        "最多同时运行 50 个",
        "在服务器队列中",
        "主题：深色",
    ] {
        assert!(chinese.contains(words), "`{words}` is missing");
    }
    let report = chinese.rsplit_once("<pre").expect("the report as Markdown");
    let title = [run.title.as_str(), "Command", "millrace bench", "first token read", "RTX 4090"];
    let said = title.iter().fold(readable(report.0), |text, ours| text.replace(ours, ""));
    for word in [" the ", " of ", "user", "request ", "requests", "Theme", "queue", "gap", "share"]
    {
        let place = said.find(word).map(|at| said[..at].chars().rev().take(40).collect::<String>());
        assert_eq!(place, None, "`{word}` is English; what is before it, backwards");
    }
}

#[test]
fn many_requests_make_rows_and_lines_sparser_not_the_page_larger() {
    let many = Run::of(simulated::Setup { levels: &[700], requests_per_user: 2, ..SMALL });
    let html = many.html();
    assert!(html.contains("One row in 5 of 700 is drawn."));
    assert!(html.len() < 250_000, "{} bytes", html.len());
    let long = Run::of(simulated::Setup { levels: &[2], requests_per_user: 1200, ..SMALL });
    let html = long.html();
    assert!(html.contains("One request in 3 of a row is drawn."));
    assert!(html.len() < 450_000, "{} bytes", html.len());
}

#[test]
fn the_same_run_gives_the_same_bytes_in_whatever_order_requests_ended() {
    let mut run = Run::of(SMALL);
    let html = run.html();
    assert!(html == Run::of(SMALL).html());
    run.records.iter_mut().for_each(|records| records.reverse());
    assert!(html == run.html());
}

#[test]
fn no_text_of_a_server_becomes_markup() {
    let html = hostile().html();
    assert!(!html.contains("<img") && !html.contains("onerror=\"window"));
    assert_eq!(html.matches("</script>").count(), 1);
    assert_eq!(html.matches("</style>").count(), 1);
    assert!(html.contains("HTTP 500: &lt;/script&gt;"));
}

#[test]
fn nothing_in_the_page_leads_out_of_it() {
    for html in [Run::of(SMALL).html(), hostile().html()] {
        for outside in ["http://", "https://", "src=\"", "@import", "<link", "url(h", "url(/"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("default-src &#39;none&#39;"));
    }
}

#[test]
fn a_server_that_tells_nothing_gets_no_charts_of_what_it_did_not_tell() {
    let html = silent().html();
    assert!(html.contains("as the client sees it") && html.contains("Gaps between the chunks"));
    assert!(html.contains("At 4 users, of 12 requests, 3 waited"));
    assert!(!html.contains("id=\"decomposition\"") && !html.contains("KV cache in use"));
}

#[test]
fn places_that_do_not_become_free_together_are_not_said_to() {
    let one_place = simulated::Setup { levels: &[4], cap: 1, ..SMALL };
    let html = Run::of(one_place).html();
    assert!(html.contains("3 of 4 users were always waiting for a place"));
    assert!(html.contains("show even in the median"));
    assert!(!html.contains("All answers are equally long") && !html.contains("about one whole"));
}

#[test]
fn a_client_is_judged_where_there_is_one() {
    let mut run = Run::of(SMALL);
    assert!(run.html().contains("Valid measurement: the client kept its limits"));
    run.is_measurement = false;
    assert!(!run.html().contains("measurement"), "a simulation is none");
    for record in run.records.iter_mut().flatten() {
        record.due_ns -= 300_000_000;
    }
    run.sum_up(SMALL);
    run.is_measurement = true;
    let verdict = run.levels[1].validity.verdict;
    assert_ne!(verdict, workload::validity::Verdict::Valid);
    assert!(!run.html().contains("Valid measurement: the client kept its limits"));
}

#[test]
fn what_was_expected_of_requests_is_compared_with_what_came() {
    let mut run = Run::of(SMALL);
    let slo = "ttft=50ms,e2e=10s".parse().expect("limits");
    run.levels[1] = run.levels[1].clone().with_goodput(slo, &run.records[1]);
    let html = run.html();
    assert!(html.contains("9 of 12 requests (75\u{a0}%) met what was expected of them: TTFT at most 50.00\u{a0}ms, latency at most 10.00\u{a0}s."));
    assert!(html.contains("In its steady part, "));
}

#[test]
fn a_schedule_has_rows_without_users() {
    let html = scheduled().html();
    assert!(html.contains("24 requests/s") && html.contains("Each row holds requests one after"));
    assert!(html.contains("due, and not yet sent by the client"));
    assert!(!Run::of(SMALL).html().contains("due, and not yet sent"), "nobody was late");
    assert!(!html.contains("id=\"scaling\""));
}

#[test]
fn a_level_without_an_answer_has_words_and_no_broken_charts() {
    let mut run = Run::of(SMALL);
    for record in run.records.iter_mut().flatten() {
        record.status = workload::record::Status::Failed("HTTP 503".to_owned());
        (record.first_token_ns, record.last_token_ns) = (None, None);
        record.chunks.clear();
    }
    run.sum_up(SMALL);
    let html = run.html();
    assert!(html.contains("At 4 users no request succeeded."));
    assert!(!html.contains("NaN"), "a number is none");
}

/// Luminance of `#rrggbb` by the definition of WCAG 2.
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let byte = u8::from_str_radix(&colour[at..at + 2], 16).expect("a hexadecimal colour");
        let share = f64::from(byte) / 255.0;
        if share <= 0.03928 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

#[test]
fn colours_stand_out_from_the_page_in_both_themes() {
    let style = include_str!("../src/style.css");
    let colours = |name: &str| -> [f64; 2] {
        let line = style.lines().find_map(|line| {
            line.trim().strip_prefix(&format!("--{name}: light-dark("))?.strip_suffix(");")
        });
        let (light, dark) = line.and_then(|pair| pair.split_once(", ")).expect("two colours");
        [light, dark].map(luminance)
    };
    let contrast = |name: &str, ground: &str| {
        let pairs = colours(name).into_iter().zip(colours(ground));
        pairs.map(|(a, b)| (a.max(b) + 0.05) / (a.min(b) + 0.05)).fold(f64::MAX, f64::min)
    };
    for (name, ground) in [("text", "page"), ("soft", "page"), ("link", "page"), ("text", "panel")]
    {
        assert!(4.5 <= contrast(name, ground), "{name} on {ground}: {}", contrast(name, ground));
    }
    let series = (0..8).map(|n| format!("c{n}"));
    let parts = ["queue", "prefill", "decode", "network", "lost"].map(str::to_owned);
    for name in series.chain(parts) {
        assert!(3.0 <= contrast(&name, "page"), "{name}: {}", contrast(&name, "page"));
    }
    assert!(3.0 <= contrast("queue", "area"), "the line of waiting requests on running ones");
}
