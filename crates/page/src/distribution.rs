//! Which share of the requests was at most so slow, level by level.

use workload::percentile::Spread;
use workload::record::RequestRecord;

use crate::figure::{Figure, Key, Layout, Look};
use crate::level::{LevelView, focus};
use crate::number::tick_duration;
use crate::plot::Plot;
use crate::reading;
use crate::scale::Scale;
use crate::words::{Chart, Words};

/// Pixels of the height of these charts.
const HEIGHT: f64 = 280.0;
/// Most points of a line: more than there are pixels to tell them apart.
const POINTS: usize = 250;

/// What a chart of this kind is about.
struct Quantity<'a> {
    id: &'static str,
    words: &'a Chart,
    what: &'a str,
    axis: &'a str,
    is_log: bool,
    value: fn(&RequestRecord) -> Option<f64>,
    spread: fn(&LevelView<'_>) -> Option<Spread>,
}

/// The time to first token at each level. `None` if no level has a successful request.
pub(crate) fn ttft(words: &Words, levels: &[LevelView<'_>]) -> Option<Figure> {
    let quantity = Quantity {
        id: "ttft",
        words: &words.charts.ttft,
        what: "TTFT",
        axis: words.charts.ttft_axis,
        is_log: true,
        value: RequestRecord::ttft_ms,
        spread: |level| level.summary.ttft_ms,
    };
    chart(words, levels, &quantity)
}

/// The time to the last token at each level. `None` if no level has a successful request.
pub(crate) fn latency(words: &Words, levels: &[LevelView<'_>]) -> Option<Figure> {
    let quantity = Quantity {
        id: "latency",
        words: &words.charts.last_token,
        what: words.charts.latency,
        axis: words.charts.latency,
        is_log: false,
        value: RequestRecord::latency_ms,
        spread: |level| level.summary.latency_ms,
    };
    chart(words, levels, &quantity)
}

fn chart(words: &Words, levels: &[LevelView<'_>], quantity: &Quantity<'_>) -> Option<Figure> {
    let values = |level: &LevelView<'_>| {
        let ok = level.records.iter().filter(|record| record.is_ok());
        let mut values: Vec<f64> = ok.filter_map(quantity.value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let lines: Vec<(&LevelView<'_>, Vec<f64>)> =
        levels.iter().map(|level| (level, values(level))).collect();
    let lines: Vec<_> = lines.into_iter().filter(|(_, values)| !values.is_empty()).collect();
    let all = || lines.iter().flat_map(|(_, values)| values.iter().copied());
    let x = if quantity.is_log { Scale::log(all()) } else { Scale::from_zero(all()) };
    let focus = focus(levels).filter(|_| !lines.is_empty())?;
    let mut plot = Plot::new(x, Scale::linear(0.0, 1.0), HEIGHT);
    plot.x_axis(quantity.axis, tick_duration);
    let marks = [(0.0, "0 %"), (0.5, "P50"), (0.95, "P95"), (1.0, "")];
    plot.y_labels(words.charts.share_axis, marks.map(|(at, name)| (at, name.to_owned())).to_vec());
    for (level, values) in &lines {
        plot.steps(&level.class(), &steps(values));
    }
    let legend = lines.iter().map(|(level, _)| Key::new(level.class(), Look::Line, level.name()));
    Some(Figure {
        id: quantity.id.to_owned(),
        heading: quantity.words.heading.to_owned(),
        reading: reading::distribution(focus, quantity.what, (quantity.spread)(focus)),
        legend: legend.collect(),
        plots: vec![(quantity.words.name.to_owned(), plot)],
        note: None,
        layout: Layout::Half,
    })
}

/// The share of `sorted` values at or below each of at most [`POINTS`] of them, from 0 to 1.
fn steps(sorted: &[f64]) -> Vec<(f64, f64)> {
    let count = sorted.len();
    let points = count.min(POINTS);
    let share = |n: usize| (n + 1) as f64 / count as f64;
    let indices = (1..=points).map(|point| point * count / points - 1);
    let first = sorted.first().map(|value| (*value, 0.0));
    first.into_iter().chain(indices.map(|n| (sorted[n], share(n)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_rises_from_nothing_to_all() {
        assert_eq!(
            steps(&[1.0, 2.0, 4.0, 8.0]),
            [(1.0, 0.0), (1.0, 0.25), (2.0, 0.5), (4.0, 0.75), (8.0, 1.0)]
        );
        assert_eq!(steps(&[]), []);
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_ends() {
        let values: Vec<f64> = (0..10_007).map(f64::from).collect();
        let line = steps(&values);
        assert_eq!(line.len(), POINTS + 1);
        assert_eq!(line.first(), Some(&(0.0, 0.0)));
        assert_eq!(line.last(), Some(&(10_006.0, 1.0)));
    }
}
