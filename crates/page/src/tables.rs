//! The figures of the report as HTML tables, with marks on percentiles that rest on too little.

use workload::percentile::{Spread, sample_size_with_bound};
use workload::summary::LevelSummary;
use workload::validity::Verdict;

use crate::level::LevelView;
use crate::markup::Markup;
use crate::number::percent;
use crate::reading;
use crate::words::Words;

/// Stands behind a percentile that its sample does not bound.
const UNBOUND: &str = " †";

/// A line per level: what was asked, what came of it.
pub(crate) fn overview(words: &Words, levels: &[LevelView<'_>]) -> Markup {
    let mut html = Markup::default();
    open(&mut html, words.document.all_levels, &words.tables.overview);
    for level in levels {
        let LevelSummary { counts, ttft_ms, latency_ms, .. } = level.summary;
        let p95 = |spread: &Option<Spread>| {
            let text = figure(spread.map(|spread| spread.p95));
            if is_bound(counts.ok, 0.95) { text } else { text + UNBOUND }
        };
        row(
            &mut html,
            &level.name(),
            &[
                figure(level.summary.tokens_per_second),
                figure(ttft_ms.map(|spread| spread.p50)),
                p95(ttft_ms),
                figure(latency_ms.map(|spread| spread.p50)),
                p95(latency_ms),
                counts.sent.to_string(),
                (counts.sent - counts.ok.min(counts.sent)).to_string(),
                figure(level.summary.total_time_s),
                figure(level.summary.delivered_concurrency),
            ],
        );
    }
    close(&mut html);
    html
}

/// The table of one level, as the report has it.
pub(crate) fn level(words: &Words, level: &LevelView<'_>) -> Markup {
    let mut html = Markup::default();
    let LevelSummary { counts, ttft_ms, latency_ms, tokens, tpot_ms, gaps, .. } = level.summary;
    html.element("p", &[("class", "small")], &reading::load(words, &level.summary.plan));
    let name = (words.tables.level_name)(&level.name());
    open(&mut html, &name, &[words.tables.metric, "Min", "Max", "Mean", "P50", "P95", "P99"]);
    row(&mut html, "TTFT (ms)", &spread(*ttft_ms, counts.ok, 2));
    row(&mut html, "Latency (ms)", &spread(*latency_ms, counts.ok, 2));
    row(&mut html, words.tables.tpot, &spread(*tpot_ms, counts.ok, 2));
    row(&mut html, "Num Generated Tokens", &spread(*tokens, counts.ok, 0));
    if let Some(gaps) = gaps {
        let (name, between) = match gaps.itl_ms {
            Some(itl_ms) => (words.tables.itl, itl_ms),
            None => (words.tables.icl, gaps.icl_ms),
        };
        row(&mut html, name, &spread(Some(between), between.count, 2));
        row(&mut html, words.tables.longest_gap, &spread(Some(gaps.longest_ms), counts.ok, 2));
    }
    close(&mut html);
    let sentences = [reading::steady(words, level.summary), reading::goodput(words, level.summary)];
    for sentence in sentences.into_iter().flatten() {
        html.element("p", &[], &sentence);
    }
    html
}

/// How far each level can be trusted as a measurement: what the client read of itself.
pub(crate) fn validity(words: &Words, levels: &[LevelView<'_>]) -> Markup {
    let mut html = Markup::default();
    open(&mut html, words.tables.validity_name, &words.tables.validity);
    for level in levels {
        let validity = &level.summary.validity;
        let client = validity.client.unwrap_or_default();
        let share = |share: Option<f64>| share.map_or("-".to_owned(), percent);
        let verdict = of_verdict(words.tables.verdicts, validity.verdict);
        row(
            &mut html,
            &level.name(),
            &[
                verdict.to_owned(),
                figure(validity.schedule_lag_ms.map(|lag| lag.p99)),
                figure(Some(validity.schedule_lag_limit_ms)),
                share(validity.delivered_share),
                share(client.thread_cpu_share),
                figure(client.heartbeat_ms.map(|late| late.p99)),
                figure(client.process_cpus),
                figure(client.server_cpus),
            ],
        );
    }
    close(&mut html);
    html
}

/// The worst verdict on a level as a measurement, in words for the head of the page.
pub(crate) fn worst(words: &Words, levels: &[LevelView<'_>]) -> &'static str {
    let worst = levels.iter().map(|level| level.summary.validity.verdict).max();
    of_verdict(words.tables.worst, worst.unwrap_or(Verdict::Valid))
}

fn of_verdict([valid, warning, invalid]: [&'static str; 3], verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => valid,
        Verdict::Warning => warning,
        Verdict::Invalid => invalid,
    }
}

/// What the mark means, if any level has it.
pub(crate) fn footnote(words: &Words, levels: &[LevelView<'_>]) -> Option<String> {
    let marked = |level: &LevelView<'_>| {
        0 < level.summary.counts.ok && !is_bound(level.summary.counts.ok, 0.99)
    };
    let bounds = [0.95, 0.99].map(sample_size_with_bound);
    levels.iter().any(marked).then(|| (words.tables.footnote)(bounds[0], bounds[1]))
}

/// A table of two columns: names and what stands behind them.
pub(crate) fn facts(rows: &[(String, String)]) -> Markup {
    let mut html = Markup::default();
    html.open("dl", &[]);
    for (name, value) in rows {
        html.element("dt", &[], name);
        html.element("dd", &[], value);
    }
    html.close("dl");
    html
}

fn is_bound(requests: usize, q: f64) -> bool {
    sample_size_with_bound(q) <= requests
}

fn figure(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.2}"))
}

fn spread(spread: Option<Spread>, requests: usize, decimals: usize) -> Vec<String> {
    let Some(Spread { min, max, mean, p50, p95, p99, .. }) = spread else {
        return vec!["-".to_owned(); 6];
    };
    let value = |value: f64| format!("{value:.decimals$}");
    // Equal values need no bound.
    let marked = |text: f64, q: f64| match min == max || is_bound(requests, q) {
        true => value(text),
        false => value(text) + UNBOUND,
    };
    vec![
        value(min),
        value(max),
        format!("{mean:.2}"),
        value(p50),
        marked(p95, 0.95),
        marked(p99, 0.99),
    ]
}

fn open(html: &mut Markup, name: &str, headings: &[&str]) {
    html.open(
        "div",
        &[("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", name)],
    );
    html.open("table", &[]);
    html.open("thead", &[]);
    html.open("tr", &[]);
    for heading in headings {
        html.element("th", &[("scope", "col")], heading);
    }
    html.close("tr");
    html.close("thead");
    html.open("tbody", &[]);
}

fn row(html: &mut Markup, name: &str, cells: &[String]) {
    html.open("tr", &[]);
    html.element("th", &[("scope", "row")], name);
    for cell in cells {
        html.element("td", &[], cell);
    }
    html.close("tr");
}

fn close(html: &mut Markup) {
    html.close("tbody");
    html.close("table");
    html.close("div");
}
