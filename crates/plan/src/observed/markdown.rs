//! Reads the form in which `workload::report` writes.

use workload::lengths::Lengths;
use workload::load::{LevelPlan, Load};
use workload::percentile::Spread;

use super::ServerSizes;
use crate::figures::Figures;

/// What is wrong in which line, from 1.
type Wrong = (usize, String);

/// The levels of a report whose requests have these lengths.
pub fn levels(text: &str, lengths: Lengths) -> Result<Vec<(LevelPlan, Figures)>, Wrong> {
    let mut levels = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        if let Some(users) = content.strip_prefix("## Concurrency Level: ") {
            let users = number::<u32>(line, users)?;
            let section =
                text.lines().zip(1..).skip(line).take_while(|(c, _)| !c.starts_with("##"));
            levels.push(level(line, users, lengths, section)?);
        }
    }
    match levels.is_empty() {
        true => Err((1, "there is no line `## Concurrency Level: N`".to_owned())),
        false => Ok(levels),
    }
}

/// The sizes that the first block tells.
pub fn sizes(text: &str) -> ServerSizes {
    let cap = text.lines().find_map(|line| line.strip_prefix("max_num_seqs = "));
    ServerSizes { max_num_seqs: cap.and_then(|cap| cap.parse().ok()), ..ServerSizes::default() }
}

fn level<'a>(
    heading: usize,
    users: u32,
    lengths: Lengths,
    section: impl Iterator<Item = (&'a str, usize)>,
) -> Result<(LevelPlan, Figures), Wrong> {
    let (mut requests, mut time, mut throughput) = (None, None, None);
    let (mut ttft, mut latency, mut tokens) = (None, None, None);
    for (content, line) in section {
        let bullet = |name: &str| content.strip_prefix("*   **")?.strip_prefix(name);
        if let Some(value) = bullet("Total Requests:** ") {
            requests = Some((line, number::<u32>(line, value)?));
        } else if let Some(value) = bullet("Total Time:** ") {
            time = Some(number(line, value.trim_end_matches(" s"))?);
        } else if let Some(value) = bullet("Total Throughput:** ") {
            throughput = Some(number(line, value.trim_end_matches(" tokens/s"))?);
        } else if let Some(cells) = content.strip_prefix("| TTFT (ms)") {
            ttft = Some(spread(line, cells)?);
        } else if let Some(cells) = content.strip_prefix("| Latency (ms)") {
            latency = Some(spread(line, cells)?);
        } else if let Some(cells) = content.strip_prefix("| Num Generated Tokens") {
            tokens = Some(spread(line, cells)?);
        }
    }
    let (line, requests) = requests.ok_or((heading, "no Total Requests follow".to_owned()))?;
    if users == 0 || requests == 0 || !requests.is_multiple_of(users) {
        let reason = format!("{requests} requests are not the same number for {users} users");
        return Err((line, reason));
    }
    let (Some(time), Some(ttft), Some(latency)) = (time, ttft, latency) else {
        return Err((heading, "Total Time, TTFT or Latency are missing below".to_owned()));
    };
    let load = Load::closed(users, requests / users);
    let figures = Figures {
        total_time_s: Some(time),
        tokens_per_second: throughput,
        ttft_ms: Some(Spread { count: requests as usize, ..ttft }),
        latency_ms: Some(Spread { count: requests as usize, ..latency }),
        tokens_mean: tokens.map(|tokens: Spread| tokens.mean),
        concurrency: Some(latency.mean / 1e3 * f64::from(requests) / time),
        ..Figures::default()
    };
    Ok((LevelPlan { load, lengths: lengths.into() }, figures))
}

/// The six cells of a row, which do not say how many values they sum up.
fn spread(line: usize, cells: &str) -> Result<Spread, Wrong> {
    let cells: Result<Vec<f64>, Wrong> =
        cells.split('|').filter(|cell| !cell.trim().is_empty()).map(|c| number(line, c)).collect();
    match cells?[..] {
        [min, max, mean, p50, p95, p99] => {
            Ok(Spread { count: 0, min, max, mean, p50, p95, p99, std: None })
        }
        ref other => Err((line, format!("{} numbers in place of 6", other.len()))),
    }
}

fn number<T: std::str::FromStr>(line: usize, text: &str) -> Result<T, Wrong> {
    let text = text.trim();
    text.parse().map_err(|_| (line, format!("`{text}` is not the number that belongs here")))
}
