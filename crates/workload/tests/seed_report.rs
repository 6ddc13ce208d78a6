//! The report this project starts from, made again from its numbers, byte for byte.

use workload::language::Language;
use workload::lengths::Lengths;
use workload::load::{LevelPlan, Load};
use workload::percentile::Spread;
use workload::report::Report;
use workload::summary::{Counts, LevelSummary};

/// The report as it was given.
const SEED_REPORT: &str = include_str!("fixtures/seed_report.md");

/// Users, total time in s, throughput in tokens/s, then Min, Max, Mean, P50, P95, P99 of the time
/// to first token and of the latency, both in ms.
type Row = (u32, f64, f64, [f64; 6], [f64; 6]);

#[rustfmt::skip]
const ROWS: [Row; 6] = [
    (1, 21.68, 272.56,
        [10.83, 23.09, 15.05, 13.91, 21.42, 22.76],
        [4143.74, 4624.17, 4336.36, 4242.69, 4602.00, 4619.74]),
    (4, 23.62, 1000.78,
        [11.88, 66.41, 23.87, 15.56, 63.59, 65.84],
        [4475.67, 5092.43, 4721.80, 4684.37, 5090.55, 5092.06]),
    (8, 28.57, 1654.76,
        [11.51, 66.72, 24.84, 18.71, 56.55, 63.84],
        [5549.86, 5928.19, 5708.35, 5670.35, 5923.96, 5926.91]),
    (16, 37.04, 2552.87,
        [11.92, 102.98, 37.23, 26.75, 91.33, 100.72],
        [7297.13, 7529.71, 7398.85, 7352.87, 7528.42, 7529.30]),
    (32, 56.30, 3359.33,
        [15.10, 153.09, 52.47, 35.18, 126.38, 148.32],
        [10973.86, 11487.38, 11239.08, 11281.69, 11462.90, 11478.07]),
    (64, 100.63, 3758.67,
        [50.24, 15433.53, 4084.72, 147.73, 15390.44, 15423.79],
        [8665.13, 30683.47, 18928.13, 15493.74, 30598.44, 30680.98]),
];

fn spread([min, max, mean, p50, p95, p99]: [f64; 6]) -> Option<Spread> {
    Some(Spread { count: 0, min, max, mean, p50, p95, p99, std: None })
}

fn level((users, time, throughput, ttft, latency): Row) -> LevelSummary {
    let lengths = Lengths { prompt_tokens: 634, output_tokens: 1182 };
    let plan = LevelPlan { load: Load::closed(users, 5), lengths: lengths.into() };
    let requests = plan.requests();
    LevelSummary {
        counts: Counts { sent: requests, ok: requests, ..Counts::default() },
        total_time_s: Some(time),
        tokens_per_second: Some(throughput),
        ttft_ms: spread(ttft),
        latency_ms: spread(latency),
        tokens: spread([1182.0; 6]),
        ..LevelSummary::of(plan, 0, &[], &[])
    }
}

fn seed_basics() -> Vec<String> {
    let lines = [
        "RTX 4090",
        "gpu_memory_utilization = 0.5",
        "(EngineCore_DP0 pid=61946) INFO 10-24 01:36:20 [kv_cache_utils.py:868] \
         Maximum concurrency for 1,818 tokens per request: 51.20x",
        "max_num_seqs = 50",
    ];
    lines.map(str::to_owned).to_vec()
}

fn report(language: Language, analysis: &str) -> String {
    let levels = ROWS.map(level);
    let analysis = [analysis.to_owned()];
    Report { basics: &seed_basics(), levels: &levels, analysis: &analysis, language }.to_markdown()
}

#[test]
fn the_seed_report_is_reproduced_byte_for_byte() {
    let finding = "Concurrency 为 64 时触发了并发上限（max_num_seqs=50），因此后来的请求只能排队";
    assert_eq!(report(Language::Chinese, finding), SEED_REPORT);
}

#[test]
fn english_changes_the_two_headings_and_nothing_else() {
    let expected = SEED_REPORT.replace("# 基础信息", "# Basics").replace("# 分析", "# Analysis");
    let (expected, _) = expected.rsplit_once("\n\n").expect("the analysis is the last paragraph");
    assert_eq!(report(Language::English, "One."), format!("{expected}\n\nOne."));
}

#[test]
fn a_level_without_success_prints_dashes() {
    let lengths = Lengths { prompt_tokens: 1, output_tokens: 1 };
    let plan = LevelPlan { load: Load::closed(2, 1), lengths: lengths.into() };
    let levels = [LevelSummary::of(plan, 2, &[], &[])];
    let report =
        Report { basics: &[], levels: &levels, analysis: &[], language: Language::English };
    let text = report.to_markdown();
    assert!(text.contains("*   **Total Requests:** 2\n*   **Total Time:** - s\n"), "{text}");
    assert!(text.contains("| TTFT (ms)              | -        | -         |"), "{text}");
}
