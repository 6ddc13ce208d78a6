//! Every request of a level as a bar, above what the server did meanwhile.

use std::collections::BTreeMap;

use workload::gauges::GaugeSample;
use workload::record::{RequestRecord, Status};

use crate::figure::{Figure, Key, Layout, Look};
use crate::level::LevelView;
use crate::number::{duration, percent, tick};
use crate::plot::Plot;
use crate::reading;
use crate::scale::Scale;
use crate::words::Requests;

/// Most rows of bars: one less and its bars would be thinner than two pixels.
const ROWS: usize = 160;
/// Most requests drawn of a level, each of which takes some 300 bytes.
const BARS: usize = 1000;
/// Rows that are kept rather than all requests of fewer.
const ROWS_KEPT: usize = 40;
/// What is longer than the whole time divided by this can be seen.
const VISIBLE: f64 = 1000.0;
/// Most readings or changes drawn of a line.
const POINTS: usize = 400;
/// Most spans of time over which tokens per second are counted.
const RATES: usize = 120;
/// A span is at least so many times the typical distance of two tokens: shorter ones would show
/// steps of the server, not a rate.
const TOKENS_OF_RATE: f64 = 5.0;

/// The requests of a level and the timeline below. `None` without any request.
pub(crate) fn chart(level: &LevelView<'_>) -> Option<Figure> {
    if level.records.is_empty() {
        return None;
    }
    let words = &level.words.requests;
    let rows = Rows::of(level);
    let mut plots = vec![((words.name)(&level.name()), gantt(level, &rows))];
    let mut legend = bar_keys(level);
    if level.samples.is_empty() {
        plots.push((words.in_flight.to_owned(), in_flight(level)));
        legend.push(Key::new("run", Look::Filled, words.receiving));
        legend.push(Key::new("wait", Look::Line, words.silent));
    } else {
        plots.push((words.gauges.to_owned(), running(level)));
        legend.push(Key::new("run", Look::Filled, words.running));
        legend.push(Key::new("wait", Look::Line, words.waiting));
        plots.extend(kv_usage(level).map(|plot| (words.kv.to_owned(), plot)));
    }
    if level.steady().is_some() {
        legend.push(Key::new("window", Look::Filled, words.steady));
    }
    let mut rates = token_rates(level);
    rates.x_axis(level.words.charts.seconds_axis, tick);
    plots.push((words.rates.to_owned(), rates));
    let readings = [Some(reading::requests(level)), reading::gauges(level)];
    Some(Figure {
        id: format!("requests-{}", level.number),
        heading: (words.heading)(&level.name()),
        reading: readings.into_iter().flatten().collect::<Vec<_>>().join(" "),
        legend,
        plots,
        note: rows.note(level),
        layout: Layout::Whole,
    })
}

/// Which row each request is drawn in.
struct Rows<'a> {
    /// The requests of each row that is drawn.
    drawn: Vec<Vec<&'a RequestRecord>>,
    /// How many rows there are in all.
    total: usize,
    /// Every so many of them is drawn.
    stride: usize,
    /// Every so many requests of a row is drawn.
    skip: usize,
}

impl<'a> Rows<'a> {
    /// A row for each user of a closed loop; else as few rows as hold requests one after another.
    fn of(level: &LevelView<'a>) -> Rows<'a> {
        let mut ordered: Vec<&RequestRecord> = level.records.iter().collect();
        ordered.sort_by_key(|record| (record.sent_ns, record.user, record.index));
        let rows = match level.summary.plan.users() {
            Some(_) => by_user(&ordered),
            None => by_time(&ordered),
        };
        let total = rows.len();
        let for_bars = ordered.len().div_ceil(BARS).min(total / ROWS_KEPT);
        let stride = total.div_ceil(ROWS).max(for_bars).max(1);
        let mut drawn: Vec<Vec<&RequestRecord>> = rows.into_iter().step_by(stride).collect();
        let skip = drawn.iter().map(Vec::len).sum::<usize>().div_ceil(BARS).max(1);
        for row in &mut drawn {
            *row = row.iter().copied().step_by(skip).collect();
        }
        Rows { drawn, total, stride, skip }
    }

    fn note(&self, level: &LevelView<'_>) -> Option<String> {
        let words = &level.words.requests;
        let thinned = (1 < self.stride).then(|| (words.rows_thinned)(self.stride, self.total));
        let skipped = (1 < self.skip).then(|| (words.requests_thinned)(self.skip));
        let readings = level.samples.len().div_ceil(POINTS);
        let sampled =
            (1 < readings).then(|| (words.readings_thinned)(readings, level.samples.len()));
        let row = match level.summary.plan.users() {
            Some(_) => words.user_rows,
            None => words.free_rows,
        };
        let parts = [Some(row.to_owned()), thinned, skipped, sampled];
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

fn by_user<'a>(ordered: &[&'a RequestRecord]) -> Vec<Vec<&'a RequestRecord>> {
    let mut rows: BTreeMap<u32, Vec<&RequestRecord>> = BTreeMap::new();
    for record in ordered {
        rows.entry(record.user).or_default().push(record);
    }
    rows.into_values().collect()
}

/// Each request goes to the first row that is free when it begins.
fn by_time<'a>(ordered: &[&'a RequestRecord]) -> Vec<Vec<&'a RequestRecord>> {
    let mut rows: Vec<Vec<&RequestRecord>> = Vec::new();
    for record in ordered {
        let is_free = |row: &&mut Vec<&RequestRecord>| {
            row.last().is_none_or(|last| last.done_ns <= record.sent_ns)
        };
        match rows.iter_mut().find(is_free) {
            Some(row) => row.push(record),
            None => rows.push(vec![record]),
        }
    }
    rows
}

fn time_scale(level: &LevelView<'_>) -> Scale {
    Scale::linear(0.0, level.duration_s())
}

fn gantt(level: &LevelView<'_>, rows: &Rows<'_>) -> Plot {
    let count = rows.drawn.len() as f64;
    let height = (count * 12.0).clamp(48.0, 400.0);
    // Rows are counted from the top.
    let mut plot = Plot::new(time_scale(level), Scale::linear(-count, 0.0), height);
    plot.x_grid();
    match level.summary.plan.users() {
        Some(_) => plot.title(level.words.requests.users_title),
        None => plot.title(level.words.requests.requests_title),
    }
    for (row, requests) in rows.drawn.iter().enumerate() {
        let top = -(row as f64) - 0.08;
        for record in requests {
            plot.open_group("", &tip(&level.words.requests, record));
            let late = is_late(level, record).then_some(("late", record.due_ns, record.sent_ns));
            for (class, start_ns, end_ns) in late.into_iter().chain(segments(record)) {
                let x = (level.seconds(start_ns), level.seconds(end_ns));
                plot.bar(class, x, (top - 0.84, top));
            }
            plot.close_group();
        }
    }
    plot
}

/// Whether a request was sent so much later than due that it can be seen.
fn is_late(level: &LevelView<'_>, record: &RequestRecord) -> bool {
    let visible_ns = 1e9 * level.duration_s() / VISIBLE;
    visible_ns < record.sent_ns.saturating_sub(record.due_ns) as f64
}

/// The parts of a request's time, each with its class.
fn segments(record: &RequestRecord) -> Vec<(&'static str, u64, u64)> {
    let sent = record.sent_ns;
    let (Some(first), true) = (record.first_token_ns, record.is_ok()) else {
        return vec![("lost", sent, record.done_ns)];
    };
    let last = record.last_token_ns.unwrap_or(first);
    let decode = ("decode", first, last);
    match record.queue_ms() {
        Some(queue_ms) => {
            let admitted = (sent + (1e6 * queue_ms) as u64).min(first);
            vec![("queue", sent, admitted), ("prefill", admitted, first), decode]
        }
        None => vec![("queue", sent, first), decode],
    }
}

fn tip(words: &Requests, record: &RequestRecord) -> String {
    let who = (words.who)(record.user + 1, record.index + 1);
    let ending = match &record.status {
        Status::Ok => String::new(),
        Status::Cancelled => words.cancelled.to_owned(),
        Status::Dropped => words.dropped.to_owned(),
        Status::Failed(reason) => (words.failed)(&shortened(reason)),
        Status::Refused(reason) => (words.refused)(&shortened(reason)),
    };
    let times = [record.queue_ms(), record.ttft_ms(), record.latency_ms()];
    let times = words.times.iter().zip(times);
    let times: String =
        times.filter_map(|(name, ms)| Some(format!("{name}{}", duration(ms?)))).collect();
    format!("{who}{times}{ending}")
}

/// At most so many characters of what a server says.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn bar_keys(level: &LevelView<'_>) -> Vec<Key> {
    let words = &level.words.requests;
    let mut keys = Vec::new();
    if level.records.iter().any(|record| is_late(level, record)) {
        keys.push(Key::new("late", Look::Filled, words.late));
    }
    if level.records.iter().any(|record| record.queue_ms().is_some()) {
        keys.push(Key::new("queue", Look::Filled, words.queue));
        keys.push(Key::new("prefill", Look::Filled, words.prefill));
    } else {
        keys.push(Key::new("queue", Look::Filled, words.before_first));
    }
    keys.push(Key::new("decode", Look::Filled, words.decode));
    if level.records.iter().any(|record| !record.is_ok()) {
        keys.push(Key::new("lost", Look::Filled, words.lost));
    }
    keys
}

/// The server's gauges of running and waiting requests, with the cap.
fn running(level: &LevelView<'_>) -> Plot {
    let series = |value: fn(&GaugeSample) -> u32| -> Vec<(f64, f64)> {
        drawn_samples(level).map(|s| (level.seconds(s.at_ns), f64::from(value(s)))).collect()
    };
    counts(level, &series(|sample| sample.running), &series(|sample| sample.waiting))
}

/// The same as the client sees it, of a server without gauges.
fn in_flight(level: &LevelView<'_>) -> Plot {
    let mut streams = Vec::new();
    let mut silent = Vec::new();
    for record in level.records {
        let first = record.first_token_ns.unwrap_or(record.done_ns);
        silent.push((record.sent_ns, first));
        streams.push((first, record.last_token_ns.unwrap_or(first)));
    }
    counts(level, &open_spans(level, &streams), &open_spans(level, &silent))
}

/// How many of the spans are open at a time, thinned to [`POINTS`] points.
fn open_spans(level: &LevelView<'_>, spans: &[(u64, u64)]) -> Vec<(f64, f64)> {
    let opened = spans.iter().map(|span| (span.0, 1_i64));
    let closed = spans.iter().map(|span| (span.1, -1_i64));
    let mut changes: Vec<(u64, i64)> = opened.chain(closed).collect();
    changes.sort_unstable();
    let mut open = 0;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (at, change) in changes {
        open += change;
        points.push((level.seconds(at), open as f64));
    }
    let stride = points.len().div_ceil(POINTS).max(1);
    let last = points.last().copied();
    points.into_iter().step_by(stride).chain(last).collect()
}

fn counts(level: &LevelView<'_>, running: &[(f64, f64)], waiting: &[(f64, f64)]) -> Plot {
    let cap = level.cap.map(f64::from);
    let all = running.iter().chain(waiting).map(|(_, count)| *count);
    let top = all.fold(1.0, f64::max);
    // A cap far above what ever ran would squeeze the rest into nothing.
    let cap = cap.filter(|cap| *cap <= 3.0 * top);
    let y = Scale::from_zero([top, cap.unwrap_or(0.0) * 1.15]);
    let mut plot = Plot::new(time_scale(level), y, 130.0);
    plot.x_grid();
    plot.y_axis(level.words.requests.count_axis, tick);
    shade(&mut plot, level, y.value(1.0));
    plot.step_area("run", running);
    plot.steps("wait", waiting);
    if let Some(cap) = cap {
        plot.horizontal("cap", cap, &(level.words.requests.at_most)(&tick(cap)));
    }
    plot
}

fn shade(plot: &mut Plot, level: &LevelView<'_>, top: f64) {
    if let Some(window) = level.steady() {
        let x = (level.seconds(window.start_ns), level.seconds(window.end_ns));
        plot.bar("window", x, (0.0, top));
    }
}

fn drawn_samples<'a>(level: &LevelView<'a>) -> impl Iterator<Item = &'a GaugeSample> {
    level.samples.iter().step_by(level.samples.len().div_ceil(POINTS).max(1))
}

fn kv_usage(level: &LevelView<'_>) -> Option<Plot> {
    let usage = |sample: &GaugeSample| Some((level.seconds(sample.at_ns), sample.kv_usage?));
    let points: Vec<(f64, f64)> = drawn_samples(level).filter_map(usage).collect();
    if points.is_empty() {
        return None;
    }
    let mut plot = Plot::new(time_scale(level), Scale::linear(0.0, 1.0), 60.0);
    plot.x_grid();
    plot.y_axis(level.words.requests.kv_axis, percent);
    plot.step_area("kv", &points);
    Some(plot)
}

fn rate_spans(level: &LevelView<'_>) -> usize {
    let token_s = level.summary.tpot_ms.map_or(0.0, |tpot| tpot.p50 / 1000.0);
    let most = level.duration_s() / (TOKENS_OF_RATE * token_s).max(1e-9);
    (most as usize).clamp(1, RATES)
}

/// Generated tokens per second, counted as their chunks arrived.
fn token_rates(level: &LevelView<'_>) -> Plot {
    let duration_s = level.duration_s();
    let count = rate_spans(level);
    let mut tokens = vec![0_u64; count];
    for chunk in level.records.iter().flat_map(|record| &record.chunks) {
        let place = (level.seconds(chunk.at_ns) / duration_s * count as f64) as usize;
        tokens[place.min(count - 1)] += u64::from(chunk.tokens.unwrap_or(1));
    }
    let width = duration_s / count as f64;
    let bins = tokens.iter().enumerate();
    let mut points: Vec<(f64, f64)> =
        bins.map(|(n, count)| (n as f64 * width, *count as f64 / width)).collect();
    points.extend(points.last().map(|(_, rate)| (duration_s, *rate)));
    let y = Scale::from_zero(points.iter().map(|(_, rate)| *rate));
    let mut plot = Plot::new(time_scale(level), y, 90.0);
    plot.y_axis(level.words.charts.tokens_per_second, tick);
    plot.step_area("rate", &points);
    plot
}
