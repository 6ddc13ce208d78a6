//! How many requests were on their way, and how many received tokens, at the same time.
//!
//! Needs nothing from the server but its answers: a server that runs at most M requests at once
//! never lets more than M streams receive tokens, however many users ask.

use serde::{Deserialize, Serialize};

use crate::load::LevelPlan;
use crate::record::RequestRecord;

/// A span of time, both ends included, nanoseconds since the origin of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its beginning.
    pub start_ns: u64,
    /// Its end, later than the beginning.
    pub end_ns: u64,
}

impl Window {
    /// The time in which every user had work: from the moment the last user began to the moment
    /// the first had finished its last request. `None` if there is no such time.
    pub fn all_users_active(records: &[RequestRecord]) -> Option<Window> {
        let users = records.iter().map(|record| record.user).max()? as usize + 1;
        let mut spans: Vec<Option<(u64, u64)>> = vec![None; users];
        for record in records {
            let span = spans[record.user as usize].get_or_insert((record.sent_ns, record.done_ns));
            span.0 = span.0.min(record.sent_ns);
            span.1 = span.1.max(record.done_ns);
        }
        let start_ns = spans.iter().flatten().map(|span| span.0).max()?;
        let end_ns = spans.iter().flatten().map(|span| span.1).min()?;
        (start_ns < end_ns).then_some(Window { start_ns, end_ns })
    }

    /// The time in which requests came as the plan says: in a closed loop while every user had work,
    /// in an open one from the first request sent to the last. `None` if there is no such time.
    pub fn under_load(plan: &LevelPlan, records: &[RequestRecord]) -> Option<Window> {
        if plan.users().is_some() {
            return Window::all_users_active(records);
        }
        let sent = || records.iter().filter(|r| r.was_sent()).map(|r| r.sent_ns);
        let (start_ns, end_ns) = (sent().min()?, sent().max()?);
        (start_ns < end_ns).then_some(Window { start_ns, end_ns })
    }

    /// The part of [`Window::under_load`] after the first answer: the burst of the beginning is
    /// over, and in a closed loop requests now come as others end. `None` if there is none.
    pub fn steady(plan: &LevelPlan, records: &[RequestRecord]) -> Option<Window> {
        let Window { start_ns, end_ns } = Window::under_load(plan, records)?;
        let answers = records.iter().filter(|record| record.is_ok());
        let start_ns = start_ns.max(answers.map(|record| record.done_ns).min()?);
        (start_ns < end_ns).then_some(Window { start_ns, end_ns })
    }

    /// Its length in seconds.
    pub fn seconds(self) -> f64 {
        (self.end_ns - self.start_ns) as f64 / 1e9
    }

    /// Whether `at_ns` lies in it.
    pub fn contains(self, at_ns: u64) -> bool {
        (self.start_ns..=self.end_ns).contains(&at_ns)
    }
}

/// How many streams received tokens at once while every user had a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamDigest {
    /// The largest number that was reached or passed for at least [`BLIP`] of the time.
    pub top: u32,
    /// Share of the time with exactly that number, 0..=1.
    pub share_at_top: f64,
    /// Mean number over the time.
    pub mean: f64,
}

/// What holds for a smaller share of the time than this is ignored: one stream's last token may be
/// read shortly after the next one's first.
pub const BLIP: f64 = 0.01;

impl StreamDigest {
    /// Counts the streams of `records` inside `window`. `None` if no token came in it.
    pub fn of(records: &[RequestRecord], window: Window) -> Option<StreamDigest> {
        let time_at = time_at_each_count(&token_spans(records), window);
        let total: u64 = time_at.iter().sum();
        let share = |time: u64| time as f64 / total as f64;
        let mut reached = 0;
        let top = (1..time_at.len()).rev().find(|&count| {
            reached += time_at[count];
            BLIP <= share(reached)
        })?;
        let weighted = time_at.iter().enumerate().map(|(n, &time)| n as f64 * share(time));
        let mean = weighted.sum();
        Some(StreamDigest { top: top as u32, share_at_top: share(time_at[top]), mean })
    }
}

/// From the first token to the last of each request that got any, or to its end if it broke off.
fn token_spans(records: &[RequestRecord]) -> Vec<(u64, u64)> {
    let span = |record: &RequestRecord| {
        let last = if record.is_ok() { record.last_token_ns? } else { record.done_ns };
        Some((record.first_token_ns?, last))
    };
    records.iter().filter_map(span).collect()
}

/// Index n holds the nanoseconds of `window` in which exactly n of the `spans` were open.
fn time_at_each_count(spans: &[(u64, u64)], window: Window) -> Vec<u64> {
    let mut events = Vec::with_capacity(2 * spans.len());
    for &(start, end) in spans {
        let start = start.clamp(window.start_ns, window.end_ns);
        let end = end.clamp(window.start_ns, window.end_ns);
        if start < end {
            events.push((start, 1_i32));
            events.push((end, -1));
        }
    }
    events.sort_unstable(); // at the same time the ends come first
    let mut time_at = vec![0; spans.len() + 1];
    let mut now = window.start_ns;
    let mut open = 0;
    for (at, change) in events {
        time_at[open as usize] += at - now;
        now = at;
        open += change;
    }
    assert_eq!(open, 0, "every span that opens closes");
    time_at[0] += window.end_ns - now;
    time_at
}

/// Requests on their way at a time, averaged over `window`.
pub fn mean_in_flight(records: &[RequestRecord], window: Window) -> f64 {
    mean_open(records, window, |record| record.sent_ns)
}

/// Requests that had passed their `start` and were not over at a time, averaged over `window`.
pub fn mean_open(
    records: &[RequestRecord],
    window: Window,
    start: fn(&RequestRecord) -> u64,
) -> f64 {
    let inside = |ns: u64| ns.clamp(window.start_ns, window.end_ns);
    let open = records.iter().map(|r| inside(r.done_ns).saturating_sub(inside(start(r))));
    open.sum::<u64>() as f64 / (window.end_ns - window.start_ns) as f64
}

/// Requests on their way at a time, averaged over the time from the first byte sent to the last
/// answer's end: the concurrency that was really delivered. `None` without any time.
pub fn delivered_concurrency(records: &[RequestRecord]) -> Option<f64> {
    let start = records.iter().map(|record| record.sent_ns).min()?;
    let end = records.iter().map(|record| record.done_ns).max()?;
    let busy: u64 = records.iter().map(|r| r.done_ns.saturating_sub(r.sent_ns)).sum();
    (start < end).then(|| busy as f64 / (end - start) as f64)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::tests::answered;

    /// `users` users who each send `requests` in a row to a server with `cap` places; a request
    /// takes about 100 ms once it has a place.
    pub(crate) fn capped(users: u32, requests: u32, cap: usize) -> Vec<RequestRecord> {
        let mut free = vec![0_u64; cap];
        let mut ready: Vec<(u64, u32)> =
            (0..users).map(|user| (u64::from(user) / 8, user)).collect();
        let mut sent = vec![0; users as usize];
        let mut records = Vec::new();
        while !ready.is_empty() {
            ready.sort_unstable();
            let (at, user) = ready.remove(0);
            let place = (0..cap).min_by_key(|&place| free[place]).expect("a place");
            let first = at.max(free[place]) + 1;
            free[place] = first + 100 + u64::from(user) % 3;
            let index = &mut sent[user as usize];
            records.push(answered(user, *index, [at, first, free[place]]));
            *index += 1;
            if *index < requests {
                ready.push((free[place], user));
            }
        }
        records
    }

    fn digest(records: &[RequestRecord]) -> StreamDigest {
        let window = Window::all_users_active(records).expect("some time");
        StreamDigest::of(records, window).expect("some tokens")
    }

    #[test]
    fn streams_of_a_capped_server_stand_at_the_cap() {
        let digest = digest(&capped(64, 5, 50));
        assert_eq!(digest.top, 50);
        assert!(0.5 < digest.share_at_top, "{digest:?}");
    }

    #[test]
    fn streams_of_a_free_server_reach_the_number_of_users() {
        assert_eq!(digest(&capped(32, 5, 50)).top, 32);
    }

    #[test]
    fn a_moment_above_the_plateau_does_not_count() {
        let mut records = vec![
            answered(0, 0, [0, 1, 1000]),
            answered(1, 0, [0, 1, 500]),
            answered(1, 1, [500, 600, 2000]),
        ];
        assert_eq!(digest(&records).top, 2);
        records[1].last_token_ns = Some(3_000_000); // two at once for 2 ms of 1000
        records[2].first_token_ns = Some(999_000_000); // and for one more
        assert_eq!(digest(&records).top, 1);
    }

    #[test]
    fn delivered_concurrency_is_the_mean_number_on_the_way() {
        let records = [answered(0, 0, [0, 1, 100]), answered(1, 0, [50, 60, 100])];
        assert_eq!(delivered_concurrency(&records), Some(1.5));
        assert_eq!(delivered_concurrency(&[]), None);
    }
}
