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
            "稳态（从一档的第一个回答结束到负载开始减少）与整档相比：{}。",
            each(levels, "；", steady)
        ),
        Finding::Drifts { level, drifts } => format!(
            "{} 时，从稳态的前三分之一到后三分之一，以下数据的变化超出偶然：{}。单个数字不足以描述该档。",
            of(*level),
            each(drifts, "，", drift)
        ),
        Finding::DrainTail { levels } => format!(
            "收尾：第一个用户完成最后一个请求之后，服务器越来越空闲，而总吞吐量包含这段时间：{}。",
            each(levels, "；", drain)
        ),
        Finding::NotSteady { level, little } => format!(
            "{} 时，利特尔法则相差 {}：平均有 {:.2} 个请求在途，而每秒 {:.2} 个请求、每个 {} 应为 {:.2} \
             个。该档未处于稳态，或时间太短，或时间戳有误。",
            of(*level),
            fine_percent(little.residual),
            little.in_flight,
            little.requests_per_second,
            time(1000.0 * little.mean_time_s),
            little.requests_per_second * little.mean_time_s
        ),
        Finding::GaugesDisagree { level, in_flight, by_gauges } => format!(
            "{} 时，客户端平均有 {in_flight:.2} 个请求在途，而服务器指标计得 {by_gauges:.2} 个在运行或等\
             待：其余的在两者之间的路上，或者还有他人在使用该服务器。",
            of(*level)
        ),
        Finding::Stages { levels } => format!(
            "TTFT 的平均构成（发送前的客户端、传输与 HTTP、排队、prefill）：{}。",
            each(levels, "；", stages)
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
        "从 Concurrency 为 {from} 起算力已饱和：{to} 时吞吐量为 {:.2} tokens/s，此前为 {:.2}，每翻一倍 \
         {}，同时有 {streams:.1} 个流在接收 token，且没有显示出并发上限。每个流则变慢：TPOT 的 P50 从 {} \
         变为 {}，与用户数成比例。",
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
    let steps = each(steps, "，", |step| {
        format!("从 {} 到 {} 为 {}", step.from, step.to, signed_percent(step.gain_per_doubling))
    });
    let fit = match fit {
        Some(fit) => format!(
            "TPOT 的 P50 随批次增长：{:.2} ms，每多一个同时接收的流再加 {:.3} ms（{} 档，与该直线相差均不\
             超过 {}）。",
            fit.base_ms,
            fit.per_sequence_ms,
            fit.levels,
            percent(fit.deviation)
        ),
        None => String::new(),
    };
    format!("并发每翻一倍，吞吐量的增长（理想为 +100%）：{steps}。{fit}")
}

fn interference(level: LevelName, gaps: &Interference, others: &[LevelName]) -> String {
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("{} 时也是如此。", all_of(others)),
    };
    format!(
        "prompt 的计算使正在进行的回答停顿：{} 时，典型回答的最长间隔为 {}，而间隔的中位数为 {}。{} 个长\
         间隔（平均 {}）中有 {} 与其他请求的 prompt 同时发生，普通间隔中为 {}。{others}",
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
            "{} 时，速率超出了服务器的能力：从前三分之一到后三分之一，在途请求从 {:.1} 个增至 {:.1} 个，延迟\
             的中位数从 {} 增至 {}；每秒发送 {:.2} 个，完成 {:.2} 个。该档的百分位数取决于它持续了多久。",
            of(*level),
            trend.in_flight_first,
            trend.in_flight_last,
            time(trend.latency_first_ms),
            time(trend.latency_last_ms),
            trend.sent_per_second,
            trend.answered_per_second
        ),
        Finding::RateHeld { level, trend } => format!(
            "{} 时，服务器跟得上：前三分之一有 {:.1} 个请求在途，后三分之一有 {:.1} 个，延迟的中位数分别为 \
             {} 和 {}。",
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
        "{} 时，从请求到期起计算（即用户所见），TTFT 的 P50 为 {}、P99 为 {}，延迟的 P50 为 {}、P99 为 {}；\
         从发送起计算（即表中数据）则分别为 {}、{}，{}、{}。两者之差是客户端推迟发送的时间（P99 {}）；只有\
         前者能显示等待中的客户端所掩盖的部分（coordinated omission）。",
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
        "{} 时为 {:.2} tokens/s（整档 {:.2}），TTFT 的 P95 为 {}（整档 {}）",
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
        Metric::Latency => "延迟",
    };
    format!("{metric} 的中位数从 {} 变为 {}", time(drift.first_ms), time(drift.last_ms))
}

fn drain(tail: &DrainTail) -> String {
    format!(
        "{} 时占 {} 的时间，吞吐量为 {:.2} tokens/s，而不是 {:.2}",
        of(tail.level),
        percent(tail.share),
        tail.tokens_per_second,
        tail.steady_tokens_per_second
    )
}

fn stages(means: &StageMeans) -> String {
    format!(
        "{} 时 {}，{}，{}，{}",
        of(means.level),
        time(means.lag_ms),
        time(means.network_ms),
        time(means.queue_ms),
        time(means.prefill_ms)
    )
}
