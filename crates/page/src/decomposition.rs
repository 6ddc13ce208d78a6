//! What the time to first token consists of, for the quick half and the slow end of each level.

use workload::stages::StageTimes;

use crate::figure::{Figure, Key, Layout, Look};
use crate::level::{LevelView, focus};
use crate::number::{duration, percent};
use crate::plot::Plot;
use crate::scale::Scale;
use crate::words::Words;

/// Pixels of the height of a bar with its distance to the next.
const BAR: f64 = 22.0;

/// Classes of the parts, in the order in which they pass.
const PARTS: [&str; 3] = ["queue", "prefill", "network"];

/// Means of the parts of the time to first token over some requests, milliseconds; their order is
/// that of [`PARTS`].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Parts([f64; PARTS.len()]);

impl Parts {
    /// `None` without requests.
    fn mean(requests: &[(StageTimes, f64)]) -> Option<Parts> {
        let mean = |part: fn(&StageTimes) -> f64| {
            requests.iter().map(|(times, _)| part(times)).sum::<f64>() / requests.len() as f64
        };
        let parts = [mean(|t| t.queue_ms), mean(|t| t.prefill_ms), mean(|t| t.network_ms)];
        (!requests.is_empty()).then_some(Parts(parts))
    }

    fn total_ms(&self) -> f64 {
        self.0.iter().sum()
    }
}

/// The quick half and the slowest twentieth of a level, by time to first token.
fn halves(level: &LevelView<'_>) -> Option<[Parts; 2]> {
    let ok = level.records.iter().filter(|record| record.is_ok());
    let times = ok.filter_map(|record| Some((StageTimes::of(record)?, record.ttft_ms()?)));
    let mut ordered: Vec<(StageTimes, f64)> = times.collect();
    ordered.sort_by(|(a, ttft_a), (b, ttft_b)| {
        ttft_a.total_cmp(ttft_b).then(a.queue_ms.total_cmp(&b.queue_ms))
    });
    let count = ordered.len();
    let quick = &ordered[..count.div_ceil(2)];
    let slow = &ordered[count - count.div_ceil(20)..];
    Some([Parts::mean(quick)?, Parts::mean(slow)?])
}

/// The chart. `None` if no server told its times.
pub(crate) fn chart(words: &Words, levels: &[LevelView<'_>]) -> Option<Figure> {
    let charts = &words.charts;
    let bars = levels.iter().filter_map(|level| Some((level, halves(level)?)));
    let bars: Vec<(&LevelView<'_>, [Parts; 2])> = bars.collect();
    let focus = focus(levels)?.number;
    let (level, halves) = bars.iter().find(|(level, _)| level.number == focus).or(bars.last())?;
    let share = |parts: &Parts| percent(parts.0[0] / parts.total_ms());
    let said = halves.map(|parts| (duration(parts.total_ms()), share(&parts)));
    let [quick, slow] = [&said[0], &said[1]].map(|(time, share)| (time.as_str(), share.as_str()));
    let reading = (words.sentences.decomposition)(&level.name(), [quick, slow]);
    let rows: Vec<(String, Parts)> = bars
        .iter()
        .flat_map(|(level, halves)| {
            let named = charts.halves.iter().zip(halves);
            named.map(|(name, parts)| (format!("{}, {name}", level.name()), *parts))
        })
        .collect();
    let legend = PARTS.iter().zip(charts.parts);
    let legend = legend.map(|(class, label)| Key::new(*class, Look::Filled, label));
    Some(Figure {
        id: "decomposition".to_owned(),
        heading: charts.decomposition.heading.to_owned(),
        reading,
        legend: legend.collect(),
        plots: vec![(charts.decomposition.name.to_owned(), draw(words, &rows))],
        note: Some(charts.decomposition_note.to_owned()),
        layout: Layout::Bars,
    })
}

fn draw(words: &Words, rows: &[(String, Parts)]) -> Plot {
    let count = rows.len() as f64;
    let scale = Scale::linear(-count, 0.0);
    let mut plot = Plot::new(Scale::linear(0.0, 1.0), scale, BAR * count);
    let shares = [0.0, 0.5, 1.0].map(|share| (share, percent(share)));
    plot.x_labels(words.charts.decomposition_axis, shares.to_vec());
    let middle = |row: usize| -(row as f64) - 0.5;
    let names = rows.iter().enumerate().map(|(row, (name, _))| (middle(row), name.clone()));
    plot.y_labels("", names.collect());
    for (row, (name, parts)) in rows.iter().enumerate() {
        let total_ms = parts.total_ms();
        let mut start = 0.0;
        for ((class, label), ms) in PARTS.iter().zip(words.charts.parts).zip(parts.0) {
            let end = start + if 0.0 < total_ms { ms / total_ms } else { 0.0 };
            plot.open_group("", &format!("{name}: {} {label}", duration(ms)));
            plot.bar(class, (start, end), (middle(row) - 0.36, middle(row) + 0.36));
            plot.close_group();
            start = end;
        }
        plot.beside(middle(row), &duration(total_ms));
    }
    plot
}
