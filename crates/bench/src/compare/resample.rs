//! The metrics of a level, and what they would be with other users: the bootstrap.

use std::collections::BTreeMap;

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

/// The requests of a level of a run in blocks that are drawn as wholes: a user's requests depend on
/// one another. Where there is one user alone, each request is a block.
pub(super) struct Blocks<'a> {
    tokens_per_second: Option<f64>,
    is_closed: bool,
    blocks: Vec<Vec<&'a RequestRecord>>,
}

impl<'a> Blocks<'a> {
    /// The blocks of `level`, loaded by `load`.
    pub(super) fn of(level: RunLevel<'a>, load: &Load) -> Blocks<'a> {
        let mut users: BTreeMap<u32, Vec<&RequestRecord>> = BTreeMap::new();
        for record in &level.records {
            users.entry(record.user).or_default().push(record);
        }
        let blocks = match users.len() {
            1 => level.records.iter().map(|record| vec![*record]).collect(),
            _ => users.into_values().collect(),
        };
        let is_closed = matches!(load, Load::Closed { .. });
        Blocks { tokens_per_second: level.tokens_per_second, is_closed, blocks }
    }

    /// Whether there are at least two blocks, without which nothing can be resampled.
    pub(super) fn can_vary(&self) -> bool {
        2 <= self.blocks.len()
    }

    /// The level's metrics as measured, in the order of [`Metric::ALL`].
    pub(super) fn measured(&self) -> [Option<f64>; 6] {
        let all: Vec<_> = self.blocks.iter().flatten().copied().collect();
        figures(&all, self.tokens_per_second)
    }

    /// The metrics of as many blocks, drawn with replacement.
    ///
    /// Throughput changes as the tokens per second of the drawn users do (closed loop) or as the
    /// tokens of the drawn requests do, whose times a schedule gives (open loop).
    pub(super) fn drawn(&self, random: &mut Random) -> [Option<f64>; 6] {
        let count = self.blocks.len();
        let blocks = (0..count).map(|_| &self.blocks[random.below(count)]);
        let drawn: Vec<_> = blocks.flatten().copied().collect();
        let measured = self.rate(self.blocks.iter().flatten().copied());
        let change = self.rate(drawn.iter().copied()) / measured;
        let throughput = self.tokens_per_second.map(|rate| rate * change);
        figures(&drawn, throughput.filter(|rate| rate.is_finite()))
    }

    fn rate(&self, records: impl Iterator<Item = &'a RequestRecord>) -> f64 {
        let (mut tokens, mut weight) = (0.0, 0.0);
        for record in records {
            tokens += f64::from(record.tokens());
            weight += if self.is_closed { record.latency_ms().unwrap_or(0.0) } else { 1.0 };
        }
        tokens / weight
    }
}

fn figures(records: &[&RequestRecord], throughput: Option<f64>) -> [Option<f64>; 6] {
    let spread = |figure: fn(&RequestRecord) -> Option<f64>| {
        Spread::of(records.iter().filter_map(|record| figure(record)).collect())
    };
    let ttft = spread(RequestRecord::ttft_ms);
    [
        throughput,
        ttft.map(|ttft| ttft.mean),
        ttft.map(|ttft| ttft.p50),
        ttft.map(|ttft| ttft.p95),
        spread(RequestRecord::tpot_ms).map(|tpot| tpot.mean),
        spread(RequestRecord::latency_ms).map(|latency| latency.mean),
    ]
}
