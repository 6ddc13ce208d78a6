//! What the time to first token consists of, for the quick half and the slow end of each level.

use workload::record::RequestRecord;

use crate::figure::{Figure, Key, Layout, Look};
use crate::level::{LevelView, focus};
use crate::number::{duration, percent};
use crate::plot::Plot;
use crate::scale::Scale;

/// Pixels of the height of a bar with its distance to the next.
const BAR: f64 = 22.0;

/// The parts, in the order in which they pass, with their classes.
const PARTS: [(&str, &str); 3] = [
    ("queue", "in the server's queue"),
    ("prefill", "prompt is read"),
    ("network", "client and network"),
];

/// Means of the parts of the time to first token over some requests, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Parts {
    /// In the server's queue.
    queue_ms: f64,
    /// From there to the first token.
    prefill_ms: f64,
    /// What the client measures beyond those.
    rest_ms: f64,
}

impl Parts {
    /// `None` if no record of `records` has all parts.
    fn mean(records: &[&RequestRecord]) -> Option<Parts> {
        let parts = records.iter().filter_map(|record| Parts::of(record));
        let parts: Vec<Parts> = parts.collect();
        let mean =
            |part: fn(&Parts) -> f64| parts.iter().map(part).sum::<f64>() / parts.len() as f64;
        (!parts.is_empty()).then(|| Parts {
            queue_ms: mean(|parts| parts.queue_ms),
            prefill_ms: mean(|parts| parts.prefill_ms),
            rest_ms: mean(|parts| parts.rest_ms),
        })
    }

    fn of(record: &RequestRecord) -> Option<Parts> {
        let (queue_ms, prefill_ms) = (record.timings?.queue_ms?, record.timings?.prefill_ms?);
        let rest_ms = (record.ttft_ms()? - queue_ms - prefill_ms).max(0.0);
        Some(Parts { queue_ms, prefill_ms, rest_ms })
    }

    fn total_ms(&self) -> f64 {
        self.queue_ms + self.prefill_ms + self.rest_ms
    }
}

/// The quick half and the slowest twentieth of a level, by time to first token.
fn halves(level: &LevelView<'_>) -> Option<[(&'static str, Parts); 2]> {
    let ok = level.records.iter().filter(|record| Parts::of(record).is_some() && record.is_ok());
    let mut ordered: Vec<&RequestRecord> = ok.collect();
    ordered.sort_by_key(|r| {
        (r.first_token_ns.map(|first| first - r.sent_ns.min(first)), r.user, r.index)
    });
    let count = ordered.len();
    let quick = &ordered[..count.div_ceil(2)];
    let slow = &ordered[count - count.div_ceil(20)..];
    Some([("quick half", Parts::mean(quick)?), ("slowest 5 %", Parts::mean(slow)?)])
}

/// The chart. `None` if no server told its times.
pub(crate) fn chart(levels: &[LevelView<'_>]) -> Option<Figure> {
    let bars = levels.iter().filter_map(|level| Some((level, halves(level)?)));
    let bars: Vec<(&LevelView<'_>, [(&str, Parts); 2])> = bars.collect();
    let focus = focus(levels)?.number;
    let (level, [(_, quick), (_, slow)]) =
        bars.iter().find(|(level, _)| level.number == focus).or(bars.last())?;
    let share = |parts: &Parts| percent(parts.queue_ms / parts.total_ms());
    let reading = format!(
        "At {} the quick half of the requests spend {} until their first token, {} of it in the \
         queue; the slowest twentieth spend {}, {} of it in the queue.",
        level.name(),
        duration(quick.total_ms()),
        share(quick),
        duration(slow.total_ms()),
        share(slow)
    );
    let rows: Vec<(String, Parts)> = bars
        .iter()
        .flat_map(|(level, halves)| {
            halves.iter().map(|(name, parts)| (format!("{}, {name}", level.name()), *parts))
        })
        .collect();
    let legend = PARTS.map(|(class, label)| Key::new(class, Look::Filled, label));
    Some(Figure {
        id: "decomposition".to_owned(),
        heading: "What the time to first token consists of".to_owned(),
        reading,
        legend: legend.to_vec(),
        plots: vec![("Parts of the time to first token".to_owned(), draw(&rows))],
        note: Some(
            "Each bar is a mean over its requests; its length is the whole of the time on \
                    its right, so bars show shares and numbers show times."
                .to_owned(),
        ),
        layout: Layout::Bars,
    })
}

fn draw(rows: &[(String, Parts)]) -> Plot {
    let count = rows.len() as f64;
    let scale = Scale::linear(-count, 0.0);
    let mut plot = Plot::new(Scale::linear(0.0, 1.0), scale, BAR * count);
    let shares = [0.0, 0.5, 1.0].map(|share| (share, percent(share)));
    plot.x_labels("share of the time to first token", shares.to_vec());
    let middle = |row: usize| -(row as f64) - 0.5;
    let names = rows.iter().enumerate().map(|(row, (name, _))| (middle(row), name.clone()));
    plot.y_labels("", names.collect());
    for (row, (name, parts)) in rows.iter().enumerate() {
        let total_ms = parts.total_ms();
        let values = [parts.queue_ms, parts.prefill_ms, parts.rest_ms];
        let mut start = 0.0;
        for ((class, label), ms) in PARTS.iter().zip(values) {
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
