//! The metrics of a level, and what they would be with other users and waves: the bootstrap.

use serde::Serialize;
use workload::load::Load;
use workload::percentile::Spread;
use workload::random::Random;
use workload::record::RequestRecord;

use super::side::RunLevel;

/// A figure that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Generated tokens per second.
    Throughput,
    /// Mean time to first token, milliseconds.
    TtftMean,
    /// Its median.
    TtftP50,
    /// Its 95th percentile.
    TtftP95,
    /// Mean time per output token after the first, milliseconds.
    TpotMean,
    /// Mean time to the last token, milliseconds.
    LatencyMean,
}

impl Metric {
    /// All, in the order of the report.
    pub const ALL: [Metric; 6] = [
        Metric::Throughput,
        Metric::TtftMean,
        Metric::TtftP50,
        Metric::TtftP95,
        Metric::TpotMean,
        Metric::LatencyMean,
    ];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Throughput => "Throughput (tokens/s)",
            Metric::TtftMean => "TTFT mean (ms)",
            Metric::TtftP50 => "TTFT p50 (ms)",
            Metric::TtftP95 => "TTFT p95 (ms)",
            Metric::TpotMean => "TPOT mean (ms)",
            Metric::LatencyMean => "Latency mean (ms)",
        }
    }
}

/// The requests of a level of a run as a table: a row for each user, a column for each wave, which
/// is the n-th request of everybody.
///
/// Requests of one user depend on one another, and so do those that were on their way together: both
/// are drawn as wholes (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1, 2007). An
/// open loop is one row; its columns are blocks of neighbours in time.
pub(super) struct Table<'a> {
    tokens_per_second: Option<f64>,
    is_closed: bool,
    rows: usize,
    columns: usize,
    /// Row, column, request.
    cells: Vec<(usize, usize, &'a RequestRecord)>,
}

impl<'a> Table<'a> {
    /// The table of `level`, loaded by `load`.
    pub(super) fn of(level: RunLevel<'a>, load: &Load) -> Table<'a> {
        let is_closed = matches!(load, Load::Closed { .. });
        let mut records = level.records;
        records.sort_by_key(|record| (record.due_ns, record.user));
        // So long that a block keeps most of what neighbours have in common.
        let length = (records.len() as f64).cbrt().ceil().max(1.0) as usize;
        let place = |(rank, record): (usize, &&'a RequestRecord)| match is_closed {
            true => (record.user as usize, record.index as usize, *record),
            false => (0, rank / length, *record),
        };
        let cells: Vec<_> = records.iter().enumerate().map(place).collect();
        let size = |last: Option<usize>| last.map_or(0, |last| last + 1);
        Table {
            tokens_per_second: level.tokens_per_second,
            is_closed,
            rows: size(cells.iter().map(|cell| cell.0).max()),
            columns: size(cells.iter().map(|cell| cell.1).max()),
            cells,
        }
    }

    /// The number of wholes that are drawn, of users and waves the fewer. `None` if there is but
    /// one of each, so that nothing can vary.
    pub(super) fn wholes(&self) -> Option<usize> {
        [self.rows, self.columns].into_iter().filter(|count| 2 <= *count).min()
    }

    /// How many requests it has.
    pub(super) fn requests(&self) -> usize {
        self.cells.len()
    }

    /// The level's metrics as measured, in the order of [`Metric::ALL`].
    pub(super) fn measured(&self) -> [Option<f64>; 6] {
        let all: Vec<_> = self.cells.iter().map(|cell| cell.2).collect();
        self.figures(&all, self.tokens_per_second)
    }

    /// The metrics of as many users and waves, drawn with replacement.
    ///
    /// Throughput changes as the tokens per second of the drawn users do (closed loop) or as the
    /// tokens of the drawn requests do, whose times a schedule gives (open loop).
    pub(super) fn drawn(&self, random: &mut Random) -> [Option<f64>; 6] {
        let (rows, columns) = (draws(self.rows, random), draws(self.columns, random));
        let times = |(row, column, record): &(usize, usize, &'a RequestRecord)| {
            std::iter::repeat_n(*record, rows[*row] * columns[*column])
        };
        let drawn: Vec<_> = self.cells.iter().flat_map(times).collect();
        let measured = self.rate(self.cells.iter().map(|cell| cell.2));
        let change = self.rate(drawn.iter().copied()) / measured;
        let throughput = self.tokens_per_second.map(|rate| rate * change);
        self.figures(&drawn, throughput.filter(|rate| rate.is_finite()))
    }

    fn rate(&self, records: impl Iterator<Item = &'a RequestRecord>) -> f64 {
        let (mut tokens, mut weight) = (0.0, 0.0);
        for record in records {
            tokens += f64::from(record.tokens());
            weight += if self.is_closed { record.latency_ms().unwrap_or(0.0) } else { 1.0 };
        }
        tokens / weight
    }

    /// In an open loop times count from when a request was due.
    fn figures(&self, records: &[&RequestRecord], throughput: Option<f64>) -> [Option<f64>; 6] {
        let spread = |figure: fn(&RequestRecord) -> Option<f64>| {
            Spread::of(records.iter().filter_map(|record| figure(record)).collect())
        };
        let (ttft, latency) = match self.is_closed {
            true => (spread(RequestRecord::ttft_ms), spread(RequestRecord::latency_ms)),
            false => (spread(RequestRecord::ttft_user_ms), spread(RequestRecord::latency_user_ms)),
        };
        [
            throughput,
            ttft.map(|ttft| ttft.mean),
            ttft.map(|ttft| ttft.p50),
            ttft.map(|ttft| ttft.p95),
            spread(RequestRecord::tpot_ms).map(|tpot| tpot.mean),
            latency.map(|latency| latency.mean),
        ]
    }
}

/// How often each of `count` things comes, if `count` are drawn with replacement.
fn draws(count: usize, random: &mut Random) -> Vec<usize> {
    let mut times = vec![0; count];
    for _ in 0..count {
        times[random.below(count)] += 1;
    }
    times
}
