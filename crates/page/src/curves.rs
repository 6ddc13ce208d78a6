//! Charts over the levels of a run: what throughput costs, and how it grows with users.

use workload::percentile::Spread;

use crate::figure::{Figure, Key, Layout, Look};
use crate::level::LevelView;
use crate::number::{duration, tick, tick_duration};
use crate::plot::Plot;
use crate::reading;
use crate::scale::Scale;

/// Pixels of the height of these charts.
const HEIGHT: f64 = 280.0;

/// One line of the throughput-latency curve.
struct Series {
    label: &'static str,
    class: &'static str,
    value: fn(&LevelView<'_>) -> Option<f64>,
}

const SERIES: [Series; 4] = [
    Series { label: "TTFT P50", class: "c0", value: |level| of(level.summary.ttft_ms, |s| s.p50) },
    Series { label: "TTFT P95", class: "c1", value: |level| of(level.summary.ttft_ms, |s| s.p95) },
    Series {
        label: "Latency P50",
        class: "c2",
        value: |level| of(level.summary.latency_ms, |s| s.p50),
    },
    Series {
        label: "Latency P95",
        class: "c3",
        value: |level| of(level.summary.latency_ms, |s| s.p95),
    },
];

fn of(spread: Option<Spread>, value: fn(&Spread) -> f64) -> Option<f64> {
    spread.as_ref().map(value)
}

/// Times against tokens per second, a point a level. `None` if no level has figures.
pub(crate) fn throughput(levels: &[LevelView<'_>]) -> Option<Figure> {
    let rate = |level: &LevelView<'_>| level.summary.tokens_per_second;
    let values = SERIES.iter().flat_map(|series| levels.iter().filter_map(series.value));
    // The numbers above the uppermost points need room.
    let values = values.flat_map(|ms| [ms, 1.5 * ms]);
    let rates: Vec<f64> = levels.iter().filter_map(rate).collect();
    if rates.is_empty() {
        return None;
    }
    let (x, y) = (Scale::from_zero(rates), Scale::log(values));
    let mut plot = Plot::new(x, y, HEIGHT).with_notes(2);
    plot.x_axis("generated tokens/s, all users together", tick);
    plot.y_axis("time (log)", tick_duration);
    for (shape, series) in SERIES.iter().enumerate() {
        let point = |level: &LevelView<'_>| Some((rate(level)?, (series.value)(level)?));
        let points: Vec<_> = levels.iter().filter_map(point).collect();
        plot.line(series.class, &points);
        for level in levels {
            let Some(at) = point(level) else { continue };
            let tip = format!("{}, {}: {}", level.name(), series.label, duration(at.1));
            plot.marker(series.class, shape, at, &tip);
        }
    }
    name_points(&mut plot, levels);
    annotate(&mut plot, levels, rate);
    let legend = SERIES.iter().enumerate();
    let legend = legend.map(|(n, series)| Key::new(series.class, Look::Marked(n), series.label));
    Some(Figure {
        id: "throughput".to_owned(),
        heading: "What more throughput costs in waiting".to_owned(),
        reading: reading::throughput(levels),
        legend: legend.collect(),
        plots: vec![("Times against throughput".to_owned(), plot)],
        note: Some("The numbers above the points are users.".to_owned()),
        layout: Layout::Half,
    })
}

/// Writes the users of each level above its point of the uppermost line, where there is room.
fn name_points(plot: &mut Plot, levels: &[LevelView<'_>]) {
    let point = |level: &LevelView<'_>| {
        Some((level.summary.tokens_per_second?, level.summary.latency_ms?.p95))
    };
    let mut named: Vec<(f64, f64)> = Vec::new();
    for level in levels {
        let Some(at) = point(level) else { continue };
        if named.iter().all(|other| plot.are_apart(*other, at)) {
            plot.above(at, &level.short_name());
            named.push(at);
        }
    }
}

/// Marks the knee and the first level beyond the cap, at the place `at` of their levels.
fn annotate(plot: &mut Plot, levels: &[LevelView<'_>], at: impl Fn(&LevelView<'_>) -> Option<f64>) {
    let knee = reading::knee(levels);
    if let Some((knee, x)) = knee.and_then(|level| Some((level, at(level)?))) {
        plot.vertical("knee", x, 1, &format!("knee: {}", knee.name()));
    }
    let beyond = reading::first_beyond_cap(levels);
    if let Some((cap, x)) = beyond.and_then(|(cap, level)| Some((cap, at(level)?))) {
        plot.vertical("cap", x, 0, &format!("more users than the cap of {cap}"));
    }
}

/// Tokens per second against users beside perfect scaling. `None` unless two levels have users and
/// figures.
pub(crate) fn scaling(levels: &[LevelView<'_>]) -> Option<Figure> {
    let point = |level: &LevelView<'_>| {
        Some((level.summary.plan.users()?, level.summary.tokens_per_second?))
    };
    let mut points: Vec<(u32, f64)> = levels.iter().filter_map(point).collect();
    points.sort_by_key(|(users, _)| *users);
    let (first, last) = (*points.first()?, *points.last()?);
    if first.0 == last.0 {
        return None;
    }
    let ideal = |users: u32| first.1 * f64::from(users) / f64::from(first.0);
    let users = || points.iter().map(|(users, _)| f64::from(*users));
    let rates = points.iter().map(|(_, rate)| *rate).chain([ideal(last.0)]);
    let mut plot = Plot::new(Scale::log_exact(users()), Scale::log(rates), HEIGHT).with_notes(1);
    plot.x_labels("users (log)", users().map(|users| (users, tick(users))).collect());
    plot.y_axis("generated tokens/s (log)", tick);
    let ends = [(f64::from(first.0), first.1), (f64::from(last.0), ideal(last.0))];
    plot.line("ideal", &ends);
    let places: Vec<_> = points.iter().map(|(users, rate)| (f64::from(*users), *rate)).collect();
    plot.line("c0", &places);
    for (users, rate) in points.iter().copied() {
        let share = crate::number::percent(rate / ideal(users));
        let tip = format!("{users} users: {rate:.2} tokens/s, {share} of perfect scaling");
        plot.marker("c0", 0, (f64::from(users), rate), &tip);
    }
    if let Some((cap, _)) = reading::first_beyond_cap(levels) {
        plot.vertical("cap", f64::from(cap), 0, &format!("cap: {cap} at a time"));
    }
    Some(Figure {
        id: "scaling".to_owned(),
        heading: "How throughput grows with users".to_owned(),
        reading: reading::scaling(first, last),
        legend: vec![
            Key::new("c0", Look::Marked(0), "measured"),
            Key::new("ideal", Look::Line, "perfect scaling"),
        ],
        plots: vec![("Throughput against users".to_owned(), plot)],
        note: None,
        layout: Layout::Half,
    })
}
