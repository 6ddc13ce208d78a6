//! When tokens came how far apart: a heat map of the gaps between the tokens of a level.

use workload::gaps::{chunk_gaps_ms, tokens_of_chunks};
use workload::record::RequestRecord;

use crate::figure::{Figure, Key, Layout, Look};
use crate::level::LevelView;
use crate::number::{tick, tick_duration};
use crate::plot::Plot;
use crate::reading;
use crate::scale::Scale;

/// Cells along time.
const COLUMNS: usize = 60;
/// Cells along the gap.
const ROWS: usize = 24;
/// Steps of the colour, each for ten times the square root of the gaps of the one before.
const SHADES: usize = 7;
/// The least gap shown, milliseconds: what is read at once has none.
const LEAST_MS: f64 = 0.01;

/// One gap between two tokens of an answer.
struct Gap {
    at_ns: u64,
    ms: f64,
    tokens: u32,
}

/// The gaps of a level over time. `None` if no answer has two chunks.
pub(crate) fn chart(level: &LevelView<'_>) -> Option<Figure> {
    let ok = level.records.iter().filter(|record| record.is_ok());
    let is_exact = level.summary.gaps?.itl_ms.is_some();
    let charts = &level.words.charts;
    let gaps: Vec<Gap> = ok.flat_map(|record| gaps(record, is_exact)).collect();
    let lengths = gaps.iter().map(|gap| gap.ms.max(LEAST_MS));
    let (x, y) = (Scale::linear(0.0, level.duration_s()), Scale::log(lengths));
    let mut plot = Plot::new(x, y, 220.0);
    plot.y_axis(charts.gap_axis, tick_duration);
    let cells = count(level, &gaps, (x, y));
    let densest = cells.iter().flatten().copied().max().unwrap_or(1);
    draw(&mut plot, &cells, (x, y), densest);
    plot.x_axis(charts.seconds_axis, tick);
    let name = if is_exact { charts.token_gaps } else { charts.chunk_gaps };
    let name = name(&level.name());
    let note = charts.gap_note;
    Some(Figure {
        id: format!("gaps-{}", level.number),
        heading: name.clone(),
        reading: reading::gaps(level),
        legend: keys(charts.gap_key, densest),
        plots: vec![(name, plot)],
        note: Some(if is_exact {
            note.to_owned()
        } else {
            format!("{note} {}", charts.chunk_note)
        }),
        layout: Layout::Whole,
    })
}

/// The gaps of one answer: before each chunk but the first; shared out among its tokens if
/// `by_token`, and then none of an answer whose tokens are not known.
fn gaps(record: &RequestRecord, by_token: bool) -> Vec<Gap> {
    let tokens =
        if by_token { tokens_of_chunks(record) } else { Some(vec![1; record.chunks.len()]) };
    let Some(tokens) = tokens else { return Vec::new() };
    let mut held_ms = 0.0;
    let mut gaps = Vec::with_capacity(tokens.len());
    let chunks = record.chunks.iter().zip(tokens).skip(1);
    for ((chunk, tokens), gap_ms) in chunks.zip(chunk_gaps_ms(record)) {
        // A chunk without a token leaves its gap to the next one that has some.
        held_ms += gap_ms;
        if 0 < tokens {
            gaps.push(Gap { at_ns: chunk.at_ns, ms: held_ms / f64::from(tokens), tokens });
            held_ms = 0.0;
        }
    }
    gaps
}

/// How many gaps fall into each cell, by row from the shortest and column.
fn count(level: &LevelView<'_>, gaps: &[Gap], (x, y): (Scale, Scale)) -> Vec<[u64; COLUMNS]> {
    let mut cells = vec![[0; COLUMNS]; ROWS];
    let cell = |place: f64, cells: usize| ((place * cells as f64) as usize).min(cells - 1);
    for gap in gaps {
        let column = cell(x.at(level.seconds(gap.at_ns)), COLUMNS);
        cells[cell(y.at(gap.ms), ROWS)][column] += u64::from(gap.tokens);
    }
    cells
}

/// The colour of a cell, from 0 to [`SHADES`] - 1, by the logarithm of its count.
fn shade(count: u64, densest: u64) -> usize {
    if densest <= 1 {
        return SHADES - 1;
    }
    let place = (count as f64).ln() / (densest as f64).ln();
    (place * SHADES as f64) as usize - usize::from(count == densest)
}

fn draw(plot: &mut Plot, cells: &[[u64; COLUMNS]], (x, y): (Scale, Scale), densest: u64) {
    let edge = |scale: Scale, n: usize, of: usize| scale.value(n as f64 / of as f64);
    for wanted in 0..SHADES {
        plot.open_group(&format!("h{wanted}"), "");
        for (row, columns) in cells.iter().enumerate() {
            for (column, count) in columns.iter().enumerate() {
                if 0 < *count && shade(*count, densest) == wanted {
                    let across = (edge(x, column, COLUMNS), edge(x, column + 1, COLUMNS));
                    plot.bar("", across, (edge(y, row, ROWS), edge(y, row + 1, ROWS)));
                }
            }
        }
        plot.close_group();
    }
}

/// The least count of each colour.
fn keys(one: &str, densest: u64) -> Vec<Key> {
    let least = |shade: usize| (densest as f64).powf(shade as f64 / SHADES as f64).ceil() as u64;
    let mut keys: Vec<Key> = Vec::new();
    for shade in 0..SHADES {
        let label = match least(shade) {
            1 => one.to_owned(),
            count => count.to_string(),
        };
        if keys.last().is_none_or(|last| last.label != label) {
            keys.push(Key::new(format!("h{shade}"), Look::Filled, label));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shades_rise_with_the_logarithm_of_the_count() {
        assert_eq!([1, 9, 11, 999_999, 1_000_000].map(|n| shade(n, 1_000_000)), [0, 1, 1, 6, 6]);
        assert_eq!(shade(1, 1), SHADES - 1);
        for densest in 2..50 {
            assert_eq!((shade(1, densest), shade(densest, densest)), (0, SHADES - 1));
        }
    }

    #[test]
    fn a_chunk_of_several_tokens_is_as_many_shorter_gaps() {
        let record = |second: u32, third: u32| -> RequestRecord {
            let chunk = |ms: u64, tokens: u32| json!({"at_ns": ms * 1_000_000, "tokens": tokens});
            let line = json!({
                "level": 1, "user": 0, "index": 0, "due_ns": 0, "sent_ns": 0, "done_ns": 0,
                "first_token_ns": 0, "last_token_ns": 0, "client_delay_ns": 0, "prompt_tokens": 1,
                "completion_tokens": 4, "asked_tokens": 4, "finish_reason": null, "status": "ok",
                "chunks": [chunk(10, 1), chunk(40, second), chunk(100, third)], "timings": null
            });
            serde_json::from_value(line).expect("a record")
        };
        let of = |record: &RequestRecord, by_token| -> Vec<(f64, u32)> {
            gaps(record, by_token).iter().map(|gap| (gap.ms, gap.tokens)).collect()
        };
        assert_eq!(of(&record(1, 2), true), [(30.0, 1), (30.0, 2)]);
        assert_eq!(of(&record(0, 3), true), [(30.0, 3)], "the gap of text held back goes on");
        assert_eq!(of(&record(1, 1), true), [], "its tokens are not known");
        assert_eq!(of(&record(1, 1), false), [(30.0, 1), (60.0, 1)]);
    }
}
