//! The page as text: what it says, how large it is, what it must never hold.

mod simulated;

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
        "All answers are equally long",
    ] {
        assert!(html.contains(words), "`{words}` is missing");
    }
}

#[test]
fn many_requests_make_rows_and_lines_sparser_not_the_page_larger() {
    let many = Run::of(simulated::Setup { levels: &[700], requests_per_user: 2, ..SMALL });
    let html = many.html();
    assert!(html.contains("One row in 5 of 700 is drawn."));
    assert!(html.len() < 250_000, "{} bytes", html.len());
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
    assert!(
        html.contains("as the client sees it") && html.contains("these are gaps between chunks")
    );
    assert!(html.contains("At 4 users, of 12 requests 9 soon had a place"));
    assert!(!html.contains("id=\"decomposition\"") && !html.contains("KV cache in use"));
}

#[test]
fn a_schedule_has_rows_without_users() {
    let html = scheduled().html();
    assert!(html.contains("24 requests/s") && html.contains("Each row holds requests one after"));
    assert!(!html.contains("id=\"scaling\"") && !html.contains("class=\"window\""));
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
