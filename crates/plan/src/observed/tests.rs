use workload::language::Language;
use workload::lengths::Preset;
use workload::record::{ServerTimings, Status, TokenChunk};
use workload::report::Report;
use workload::summary::{Counts, LevelSummary};

use super::*;

const SEED_REPORT: &str = include_str!("../../../workload/tests/fixtures/seed_report.md");

#[test]
fn a_report_is_read_to_the_last_digit() {
    let observed = Observed::of_markdown(SEED_REPORT, Preset::SEED.lengths).expect("our own form");
    let level = |Observation { plan, figures, .. }: Observation| LevelSummary {
        counts: Counts { sent: plan.requests(), ..Counts::default() },
        total_time_s: figures.total_time_s,
        tokens_per_second: figures.tokens_per_second,
        ttft_ms: figures.ttft_ms,
        latency_ms: figures.latency_ms,
        ..LevelSummary::of(plan, 0, &[], &[])
    };
    let levels: Vec<_> = observed.levels.into_iter().map(level).collect();
    let language = Language::Chinese;
    let report = Report { basics: &[], levels: &levels, analysis: &[], language }.to_markdown();
    let tables = |text: &str| {
        let start = text.find("## Concurrency").expect("a level");
        let tables = &text[start..text.rfind("---\n").expect("the end of a level")];
        let is_read = |line: &&str| !line.starts_with("| Num Generated Tokens");
        tables.lines().filter(is_read).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(tables(&report), tables(SEED_REPORT));
    assert_eq!(observed.server.max_num_seqs, Some(50));
}

#[track_caller]
fn refused(text: &str, line: usize, reason: &str) {
    let error = Observed::of_markdown(text, Preset::SEED.lengths).expect_err("a bad report");
    assert_eq!((error.0, error.1.contains(reason)), (line, true), "{error:?}");
}

#[test]
fn a_report_that_cannot_be_read_names_the_line() {
    refused("# Basics\n", 1, "no line `## Concurrency Level: N`");
    refused(&SEED_REPORT.replace("Level: 4\n", "Level: four\n"), 21, "`four` is not the number");
    refused(&SEED_REPORT.replace("23.62 s", "23,62 s"), 24, "`23,62` is not the number");
    refused(&SEED_REPORT.replace("Requests:** 20", "Requests:** 21"), 23, "21 requests");
    refused(&SEED_REPORT.replace("| 15.56     ", ""), 29, "5 numbers in place of 6");
    refused(&SEED_REPORT.replace("| TTFT (ms) ", "| TTF (ms)  "), 7, "TTFT or Latency are missing");
}

fn record(level: u32, gaps_ns: &[u64]) -> RequestRecord {
    let mut at_ns = 5_000_000;
    let mut chunks = vec![TokenChunk { at_ns, tokens: Some(1) }];
    for gap in gaps_ns {
        at_ns += gap;
        chunks.push(TokenChunk { at_ns, tokens: Some(1) });
    }
    RequestRecord {
        level,
        user: 0,
        index: 0,
        due_ns: 0,
        sent_ns: 0,
        first_token_ns: Some(5_000_000),
        last_token_ns: Some(at_ns),
        done_ns: at_ns,
        prompt_tokens: Some(10),
        completion_tokens: Some(1 + gaps_ns.len() as u32),
        asked_tokens: 1 + gaps_ns.len() as u32,
        asked_prompt_tokens: Some(10),
        chunks,
        finish_reason: None,
        status: Status::Ok,
        timings: Some(ServerTimings {
            queue_ms: Some(1.0),
            prefill_ms: Some(3.5),
            decode_ms: None,
            cached_prompt_tokens: None,
        }),
        client_delay_ns: 0,
    }
}

/// A folder as `millrace bench --out` leaves it, of two levels.
fn folder(summary: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let records = [record(1, &[100; 8]), record(2, &[200, 200, 1, 1, 1, 1, 300, 300])];
    let lines = records.map(|record| serde_json::to_string(&record).expect("plain data") + "\n");
    fs::write(folder.path().join("requests.jsonl"), lines.concat()).expect("writable");
    fs::write(folder.path().join("summary.json"), summary).expect("writable");
    folder
}

#[test]
fn a_folder_gives_levels_requests_and_the_sizes_of_the_server() {
    let levels = Observed::of_markdown(SEED_REPORT, Preset::SEED.lengths).expect("our own form");
    let plans: Vec<_> = levels.levels.into_iter().take(2).map(|level| level.plan).collect();
    let plans = serde_json::to_value(&plans).expect("plain data");
    let info = serde_json::json!({
        "device": "d", "max_num_seqs": 7, "max_num_batched_tokens": 99, "block_size": 32,
    });
    let text = serde_json::json!({
        "tool": "t", "seed": 5, "server": {"info": info},
        "levels": [{"plan": plans[0], "queue": null}, {"plan": plans[1]}],
    });
    let observed = Observed::of_folder(folder(&text.to_string()).path()).expect("a good folder");
    assert_eq!(observed.seed, 5);
    let growth: Vec<_> = observed.levels.iter().map(|level| level.figures.pace_growth).collect();
    assert_eq!(growth, [Some(1.0), Some(1.5)]);
    assert_eq!(observed.levels[0].figures.front_ms, Some(0.5), "5 ms less 1 and 3.5");
    assert_eq!(observed.levels[1].plan.users(), Some(4));
    let otherwise = crate::preset::SEED.engine;
    let expected =
        EngineConfig { max_num_seqs: 7, max_num_batched_tokens: 99, block_size: 32, ..otherwise };
    assert_eq!(observed.server.engine(otherwise), expected);
}

#[test]
fn a_folder_that_is_none_is_refused_by_name() {
    let error = Observed::of_folder(Path::new("/nowhere")).expect_err("nothing is there");
    assert!(error.to_string().starts_with("cannot read /nowhere/summary.json"), "{error}");
    let broken = folder("{\"levels\":\n7}");
    let error = Observed::of_folder(broken.path()).expect_err("no list of levels").to_string();
    assert!(error.contains("summary.json: line 2: not the summary of a load test"), "{error}");
}
