//! When tokens came how far apart: a heat map of the gaps between the tokens of a level.

use workload::record::{TokenChunk, milliseconds};

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
    let gaps: Vec<Gap> = ok.flat_map(|record| gaps(&record.chunks)).collect();
    let mut sorted: Vec<f64> = Vec::new();
    for gap in &gaps {
        sorted.extend(std::iter::repeat_n(gap.ms, gap.tokens as usize));
    }
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (sorted.first()?.max(LEAST_MS), sorted.last()?.max(LEAST_MS));
    let (x, y) = (Scale::linear(0.0, level.duration_s()), Scale::log([least, most]));
    let mut plot = Plot::new(x, y, 220.0);
    plot.y_axis("gap to the token before (log)", tick_duration);
    let cells = count(level, &gaps, (x, y));
    let densest = cells.iter().flatten().copied().max().unwrap_or(1);
    draw(&mut plot, &cells, (x, y), densest);
    plot.x_axis("seconds since the first request of this level", tick);
    let note = "Each cell counts the gaps of its span of time and length.";
    let chunks =
        "The server does not say how many tokens a chunk holds: these are gaps between chunks.";
    let is_exact = level.records.iter().flat_map(|r| &r.chunks).all(|chunk| chunk.tokens.is_some());
    Some(Figure {
        id: format!("gaps-{}", level.number),
        heading: format!("Gaps between the tokens of {}", level.name()),
        reading: reading::gaps(level, &sorted),
        legend: keys(densest),
        plots: vec![(format!("Gaps between tokens at {}", level.name()), plot)],
        note: Some(if is_exact { note.to_owned() } else { format!("{note} {chunks}") }),
        layout: Layout::Whole,
    })
}

/// The gaps of one answer: before each chunk but the first, shared out among its tokens.
fn gaps(chunks: &[TokenChunk]) -> impl Iterator<Item = Gap> {
    chunks.windows(2).map(|pair| {
        let tokens = pair[1].tokens.unwrap_or(1).max(1);
        let ms = milliseconds(pair[0].at_ns, pair[1].at_ns);
        Gap { at_ns: pair[1].at_ns, ms: ms / f64::from(tokens), tokens }
    })
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
fn keys(densest: u64) -> Vec<Key> {
    let least = |shade: usize| (densest as f64).powf(shade as f64 / SHADES as f64).ceil() as u64;
    let mut keys: Vec<Key> = Vec::new();
    for shade in 0..SHADES {
        let label = match least(shade) {
            1 => "1 gap or more in a cell".to_owned(),
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
        let chunk = |ms: u64, tokens| TokenChunk { at_ns: ms * 1_000_000, tokens: Some(tokens) };
        let gaps: Vec<(f64, u32)> =
            gaps(&[chunk(10, 1), chunk(40, 3)]).map(|gap| (gap.ms, gap.tokens)).collect();
        assert_eq!(gaps, [(10.0, 3)]);
    }
}
