//! Charts over the levels of a run: what throughput costs, and how it grows with users.

use workload::percentile::Spread;

use crate::figure::{Figure, Key, Layout, Look};
use crate::level::LevelView;
use crate::number::{duration, tick, tick_duration};
use crate::plot::Plot;
use crate::reading;
use crate::scale::Scale;
use crate::words::Words;

/// Pixels of the height of these charts.
const HEIGHT: f64 = 280.0;

/// One line of the throughput-latency curve.
struct Series {
    label: String,
    class: &'static str,
    value: fn(&LevelView<'_>) -> Option<f64>,
}

fn series(words: &Words) -> [Series; 4] {
    let latency = words.charts.latency;
    let line = |label: String, class, value| Series { label, class, value };
    [
        line("TTFT P50".into(), "c0", |level| of(level.summary.ttft_ms, |s| s.p50)),
        line("TTFT P95".into(), "c1", |level| of(level.summary.ttft_ms, |s| s.p95)),
        line(format!("{latency} P50"), "c2", |level| of(level.summary.latency_ms, |s| s.p50)),
        line(format!("{latency} P95"), "c3", |level| of(level.summary.latency_ms, |s| s.p95)),
    ]
}

fn of(spread: Option<Spread>, value: fn(&Spread) -> f64) -> Option<f64> {
    spread.as_ref().map(value)
}

/// Times against tokens per second, a point a level. `None` if no level has figures.
pub(crate) fn throughput(words: &Words, levels: &[LevelView<'_>]) -> Option<Figure> {
    let (charts, all) = (&words.charts, series(words));
    let rate = |level: &LevelView<'_>| level.summary.tokens_per_second;
    let values = all.iter().flat_map(|series| levels.iter().filter_map(series.value));
    // The numbers above the uppermost points need room.
    let values = values.flat_map(|ms| [ms, 1.5 * ms]);
    let rates: Vec<f64> = levels.iter().filter_map(rate).collect();
    if rates.is_empty() {
        return None;
    }
    let (x, y) = (Scale::from_zero(rates), Scale::log(values));
    let mut plot = Plot::new(x, y, HEIGHT).with_notes(2);
    plot.x_axis(charts.all_users_axis, tick);
    plot.y_axis(charts.time_axis, tick_duration);
    for (shape, series) in all.iter().enumerate() {
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
    annotate(&mut plot, words, levels);
    let legend = all.iter().enumerate();
    let legend = legend.map(|(n, series)| Key::new(series.class, Look::Marked(n), &*series.label));
    Some(Figure {
        id: "throughput".to_owned(),
        heading: charts.throughput.heading.to_owned(),
        reading: reading::throughput(words, levels),
        legend: legend.collect(),
        plots: vec![(charts.throughput.name.to_owned(), plot)],
        note: Some(charts.throughput_note.to_owned()),
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

/// Marks the knee and the first level beyond the cap at their throughput.
fn annotate(plot: &mut Plot, words: &Words, levels: &[LevelView<'_>]) {
    let at = |level: &LevelView<'_>| level.summary.tokens_per_second;
    let knee = reading::knee(levels);
    if let Some((knee, x)) = knee.and_then(|level| Some((level, at(level)?))) {
        plot.vertical("knee", x, 1, &(words.charts.knee)(&knee.name()));
    }
    let beyond = reading::first_beyond_cap(levels);
    if let Some((cap, x)) = beyond.and_then(|(cap, level)| Some((cap, at(level)?))) {
        plot.vertical("cap", x, 0, &(words.charts.beyond_cap)(cap));
    }
}

/// Tokens per second against users beside perfect scaling. `None` unless two levels have users and
/// figures.
pub(crate) fn scaling(words: &Words, levels: &[LevelView<'_>]) -> Option<Figure> {
    let charts = &words.charts;
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
    plot.x_labels(charts.users_axis, users().map(|users| (users, tick(users))).collect());
    plot.y_axis(charts.rate_axis, tick);
    let ends = [(f64::from(first.0), first.1), (f64::from(last.0), ideal(last.0))];
    plot.line("ideal", &ends);
    let places: Vec<_> = points.iter().map(|(users, rate)| (f64::from(*users), *rate)).collect();
    plot.line("c0", &places);
    for (users, rate) in points.iter().copied() {
        let share = crate::number::percent(rate / ideal(users));
        let tip = (charts.scaling_tip)(&(words.levels.users)(users), rate, &share);
        plot.marker("c0", 0, (f64::from(users), rate), &tip);
    }
    if let Some((cap, _)) = reading::first_beyond_cap(levels) {
        plot.vertical("cap", f64::from(cap), 0, &(charts.cap)(cap));
    }
    Some(Figure {
        id: "scaling".to_owned(),
        heading: charts.scaling.heading.to_owned(),
        reading: reading::scaling(words, first, last),
        legend: vec![
            Key::new("c0", Look::Marked(0), charts.measured),
            Key::new("ideal", Look::Line, charts.perfect),
        ],
        plots: vec![(charts.scaling.name.to_owned(), plot)],
        note: None,
        layout: Layout::Half,
    })
}
