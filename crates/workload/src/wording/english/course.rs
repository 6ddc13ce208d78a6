//! How throughput grew, how levels went, and where time was spent.

use super::{all_of, each, of, percent};
use crate::analysis::{DrainTail, Finding, ScalingStep, StageMeans, SteadyFigures, StepFit};
use crate::interference::Interference;
use crate::level::LevelName;
use crate::percentile::Spread;
use crate::steady::{Drift, Metric};
use crate::wording::{fine_percent, time};

pub(super) fn text(finding: &Finding) -> String {
    match finding {
        Finding::Saturated { .. } => saturated(finding),
        Finding::Scaling { steps, fit } => scaling(steps, *fit),
        Finding::PrefillInterference { level, gaps, others } => interference(*level, gaps, others),
        Finding::RateExceeded { .. } | Finding::RateHeld { .. } => rate(finding),
        Finding::FromDue { level, ttft_ms, latency_ms, lag_ms } => {
            from_due(*level, ttft_ms, latency_ms, lag_ms)
        }
        Finding::SteadyState { levels } => format!(
            "Steady state, from a level's first answer until load begins to go, beside the whole \
             level: {}.",
            each(levels, "; ", steady)
        ),
        Finding::Drifts { level, drifts } => format!(
            "At {} figures changed from the first third of the steady state to the last, by more \
             than chance: {}. One number does not describe that level.",
            of(*level),
            each(drifts, ", ", drift)
        ),
        Finding::DrainTail { levels } => format!(
            "Drain: after the first user had finished its last request, the server was less and less \
             busy, and total throughput includes that time: {}.",
            each(levels, "; ", drain)
        ),
        Finding::NotSteady { level, little } => format!(
            "At {} Little's law is off by {}: {:.2} requests were on their way at a time, but \
             {:.2} requests/s of {} each make {:.2}. The level was not in a steady state, too short \
             for one, or time stamps are wrong.",
            of(*level),
            fine_percent(little.residual),
            little.in_flight,
            little.requests_per_second,
            time(1000.0 * little.mean_time_s),
            little.requests_per_second * little.mean_time_s
        ),
        Finding::GaugesDisagree { level, in_flight, by_gauges } => format!(
            "At {} the client had {in_flight:.2} requests on their way at a time, but the server's \
             gauges counted {by_gauges:.2} that ran or waited: the rest was under way between them, \
             or others use this server too.",
            of(*level)
        ),
        Finding::Stages { levels } => format!(
            "Where the time to first token went, on average (client before sending, way and HTTP, \
             queue, prefill): {}.",
            each(levels, "; ", stages)
        ),
        _ => unreachable!("its subject is another"),
    }
}

fn saturated(finding: &Finding) -> String {
    let Finding::Saturated { step, tokens_per_second, tpot_p50_ms, streams } = finding else {
        unreachable!("the caller matched it");
    };
    let ScalingStep { from, to, gain_per_doubling } = step;
    format!(
        "Compute is saturated from concurrency {from} on: at {to} throughput is {:.2} instead of \
         {:.2} tokens/s, {} for each doubling, while {streams:.1} streams received tokens at a time \
         and no cap shows. Instead each of them got slower: TPOT P50 went from {} to {}, as the \
         users did.",
        tokens_per_second.1,
        tokens_per_second.0,
        signed_percent(*gain_per_doubling),
        time(tpot_p50_ms.0),
        time(tpot_p50_ms.1)
    )
}

fn signed_percent(share: f64) -> String {
    format!("{:+.0}%", 100.0 * share)
}

fn scaling(steps: &[ScalingStep], fit: Option<StepFit>) -> String {
    let steps = each(steps, ", ", |step| {
        format!("{} from {} to {}", signed_percent(step.gain_per_doubling), step.from, step.to)
    });
    let fit = match fit {
        Some(fit) => format!(
            " TPOT P50 grows with the batch: {:.2} ms and {:.3} ms more for each stream at once \
             ({} levels, each within {} of that line).",
            fit.base_ms,
            fit.per_sequence_ms,
            fit.levels,
            percent(fit.deviation)
        ),
        None => String::new(),
    };
    format!("Throughput gained for each doubling of concurrency (+100% is ideal): {steps}.{fit}")
}

fn interference(level: LevelName, gaps: &Interference, others: &[LevelName]) -> String {
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(" The same shows at {}.", all_of(others)),
    };
    format!(
        "Prompts hold up running answers: at {} the longest gap of a typical answer was {}, while \
         the median gap was {}. Of {} long gaps ({} on average) {} fall together with the prompt of \
         another request, of ordinary ones {}.{others}",
        of(level),
        time(gaps.longest_p50_ms),
        time(gaps.median_ms),
        gaps.long_gaps,
        time(gaps.long_mean_ms),
        percent(gaps.long_with_prompt),
        percent(gaps.others_with_prompt)
    )
}

fn rate(finding: &Finding) -> String {
    match finding {
        Finding::RateExceeded { level, trend } => format!(
            "At {} the rate is above what the server can do: requests on their way grew from {:.1} \
             to {:.1} between the first and the last third, and their median latency from {} to {}; \
             {:.2} a second were sent and {:.2} answered. Percentiles of this level depend on how \
             long it lasted.",
            of(*level),
            trend.in_flight_first,
            trend.in_flight_last,
            time(trend.latency_first_ms),
            time(trend.latency_last_ms),
            trend.sent_per_second,
            trend.answered_per_second
        ),
        Finding::RateHeld { level, trend } => format!(
            "At {} the server kept up: {:.1} requests on their way in the first third and {:.1} in \
             the last, with a median latency of {} and {}.",
            of(*level),
            trend.in_flight_first,
            trend.in_flight_last,
            time(trend.latency_first_ms),
            time(trend.latency_last_ms)
        ),
        _ => unreachable!("the caller matched it"),
    }
}

fn from_due(
    level: LevelName,
    (ttft, ttft_user): &(Spread, Spread),
    (latency, latency_user): &(Spread, Spread),
    lag: &Spread,
) -> String {
    format!(
        "At {} times counted from when a request was due, as its user sees them, are TTFT P50 {} \
         and P99 {}, latency P50 {} and P99 {}; counted from when it was sent, as in the table, they \
         are {} and {}, {} and {}. The two differ by the time for which the client held requests \
         back (P99 {}); only the first shows what a client that waits hides (coordinated omission).",
        of(level),
        time(ttft_user.p50),
        time(ttft_user.p99),
        time(latency_user.p50),
        time(latency_user.p99),
        time(ttft.p50),
        time(ttft.p99),
        time(latency.p50),
        time(latency.p99),
        time(lag.p99)
    )
}

fn steady(figures: &SteadyFigures) -> String {
    format!(
        "at {}: {:.2} instead of {:.2} tokens/s and a TTFT P95 of {} instead of {}",
        of(figures.level),
        figures.tokens_per_second,
        figures.whole_tokens_per_second,
        time(figures.ttft_p95_ms),
        time(figures.whole_ttft_p95_ms)
    )
}

fn drift(drift: &Drift) -> String {
    let metric = match drift.metric {
        Metric::Ttft => "TTFT",
        Metric::Tpot => "TPOT",
        Metric::Latency => "latency",
    };
    format!("median {metric} from {} to {}", time(drift.first_ms), time(drift.last_ms))
}

fn drain(tail: &DrainTail) -> String {
    format!(
        "at {}: {} of the time, with {:.2} tokens/s instead of {:.2}",
        of(tail.level),
        percent(tail.share),
        tail.tokens_per_second,
        tail.steady_tokens_per_second
    )
}

fn stages(means: &StageMeans) -> String {
    format!(
        "at {}: {}, {}, {}, {}",
        of(means.level),
        time(means.lag_ms),
        time(means.network_ms),
        time(means.queue_ms),
        time(means.prefill_ms)
    )
}
