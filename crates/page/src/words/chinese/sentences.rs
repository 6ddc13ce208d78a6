//! What charts show.

use workload::percentile::Spread;
use workload::waits::WaitShape;

use super::users;
use crate::number::{duration, percent};
use crate::words::{Goodput, Median, Queue, Scaling, Sentences, Steady, Throughput, Wait, Why};

pub(super) const SENTENCES: Sentences = Sentences {
    nothing: |level| format!("{level}时没有成功的请求。"),
    why,
    throughput,
    scaling,
    distribution,
    decomposition: |level, [quick, slow]| {
        format!(
            "{level}时，较快的一半请求平均用 {} 得到第一个 token，其中 {} 在排队；最慢的二十分之一平均用 \
             {}，其中 {} 在排队。",
            quick.0, quick.1, slow.0, slow.1
        )
    },
    gaps,
    requests,
    gauges,
    load,
    steady,
    goodput,
};

fn why(facts: &Why<'_>) -> String {
    let Why { level, ttft, waits, capped, wait, in_batches } = facts;
    let service = duration(waits.service_ms);
    let Some(Wait { mean_ms, is_whole, median }) = wait else {
        return format!(
            "{level}时没有请求需要等待位置：TTFT 的中位数为 {}，P95 为 {}，而一个回答用时 {service}。",
            duration(ttft.p50),
            duration(ttft.p95),
        );
    };
    let mut text = match capped {
        Some((cap, all)) => format!(
            "{level}时，服务器最多同时运行 {cap} 个请求，因此 {all} 个用户中始终有 {} 个在等待位置。",
            all.saturating_sub(*cap)
        ),
        None => format!("{level}时，"),
    };
    text += &format!(
        "{} 个请求中有 {} 个等待第一个 token，平均 {}，",
        waits.requests,
        waits.waited,
        duration(*mean_ms)
    );
    text += &match is_whole {
        true => format!("约为一个完整的服务时间：请求开始运行后用时 {service}。"),
        false => {
            format!("是请求开始运行后所用时间 {service} 的 {:.1} 倍。", mean_ms / waits.service_ms)
        }
    };
    if let Some(ttft_ms) = waits.at_once_p50_ms {
        let others = waits.requests - waits.waited;
        text += &format!("其余 {others} 个中有一半在 {} 内得到。", duration(ttft_ms));
    }
    if *in_batches {
        text += "所有回答长度相同，所以位置成批地同时空出；刚好错过的请求要等到这一批全部回答完。";
    }
    text + &percentiles(ttft, waits, median)
}

fn percentiles(ttft: &Spread, waits: &WaitShape, median: &Median) -> String {
    let share = percent(waits.waited as f64 / waits.requests as f64);
    let (p50, p95) = (duration(ttft.p50), duration(ttft.p95));
    match median {
        Median::Quick => format!(
            "因此中位数的请求没有等待（TTFT P50 {p50}），而 P95 落在等待过的 {share} 之中（TTFT P95 \
             {p95}）。"
        ),
        Median::Waited => {
            format!("等待过的请求占 {share}，连中位数都能看出：TTFT P50 {p50}，P95 {p95}。")
        }
        Median::Few => {
            format!("等待过的请求只占 {share}，百分位数几乎看不出：TTFT P50 {p50}，P95 {p95}。")
        }
    }
}

fn throughput(facts: &Throughput<'_>) -> String {
    let [(first, rate, p95), (last, rate_last, p95_last)] = facts.ends;
    let time = |ms: Option<f64>| ms.map_or("未知".to_owned(), duration);
    let mut text = match facts.is_one {
        true => format!("{first}：{rate:.2} tokens/s，TTFT P95 {}。", time(p95)),
        false => format!(
            "从 {first}到 {last}，吞吐量从 {rate:.2} 变为 {rate_last:.2} tokens/s，TTFT P95 从 {} 变为 \
             {}。",
            time(p95),
            time(p95_last)
        ),
    };
    let gain = percent(facts.knee_gain);
    match facts.knee {
        Some(knee) => {
            text += &format!("拐点在 {knee}：此后用户数翻倍，吞吐量的增加不到 {gain}。");
        }
        None if !facts.is_one => {
            text += &format!("没有拐点：用户数每翻一倍，吞吐量仍增加 {gain} 以上。");
        }
        None => {}
    }
    if let Some((cap, level)) = facts.beyond_cap {
        text += &format!("{level}多于同时运行的 {cap} 个序列：超出上限的请求只能等待。");
    }
    text
}

fn scaling(facts: &Scaling) -> String {
    let Scaling { users: [first, last], factor, ideal } = *facts;
    format!(
        "{}每秒得到的 token 是 {}的 {factor:.1} 倍：为理想增长（{ideal:.1} 倍）的 {}。",
        users(last),
        users(first),
        percent(factor / ideal)
    )
}

fn distribution(level: &str, what: &str, spread: &Spread, has_gap: bool) -> String {
    let mut text = format!(
        "{level}时，一半请求的 {what} 不超过 {}，{} 的请求不超过 {}。",
        duration(spread.p50),
        percent(0.95),
        duration(spread.p95)
    );
    if has_gap {
        text += &format!(
            "曲线的平坦段是一个空档：快的请求与慢的请求（最慢 {}）之间几乎没有请求。",
            duration(spread.max)
        );
    }
    text
}

fn gaps(level: &str, gaps: &Spread, is_exact: bool) -> String {
    let what = if is_exact { "token 间隔（ITL）" } else { "数据块间隔（ICL）" };
    format!(
        "{level}时，一半的{what}不超过 {}，{} 不超过 {}；最长为 {}。",
        duration(gaps.p50),
        percent(0.99),
        duration(gaps.p99),
        duration(gaps.max)
    )
}

fn requests(waits: &WaitShape) -> String {
    let service = duration(waits.service_ms);
    match waits.waited_mean_ms {
        Some(mean_ms) => format!(
            "{} 个请求中有 {} 个等待第一个 token，平均 {}；一个回答用时 {service}。",
            waits.requests,
            waits.waited,
            duration(mean_ms)
        ),
        None => format!(
            "{} 个请求都没有长时间等待第一个 token；一个回答用时 {service}。",
            waits.requests
        ),
    }
}

fn gauges(queue: Option<Queue>) -> String {
    match queue {
        None => "服务器指标的读数均未显示排队。".to_owned(),
        Some(Queue { running, waiting, samples, of }) => format!(
            "有请求等待时的 {of} 次服务器指标读数中，有 {samples} 次为 {running} 个在运行、{waiting} \
             个在队列中。"
        ),
    }
}

fn load(requests: usize, lengths: Option<(u32, u32)>) -> String {
    match lengths {
        Some((prompt, output)) => format!(
            "{requests} 个请求，每个的 prompt 有 {prompt} 个 token，生成 {output} 个 token。"
        ),
        None => format!("{requests} 个请求，长度各不相同。"),
    }
}

fn steady(facts: &Steady) -> String {
    let figure = |(rate, p95): (f64, Option<f64>)| {
        let p95 = p95.map_or("未知".to_owned(), duration);
        format!("{rate:.2} tokens/s，TTFT P95 {p95}")
    };
    format!(
        "稳态部分长 {}，含 {} 个请求：{}。整档：{}。",
        duration(facts.length_ms),
        facts.requests,
        figure(facts.part),
        figure(facts.whole)
    )
}

fn goodput(facts: &Goodput) -> String {
    let names = ["TTFT", "TPOT", "Latency"];
    let limits = names.iter().zip(facts.limits_ms).filter_map(|(what, limit_ms)| {
        limit_ms.map(|limit_ms| format!("{what} 不超过 {}", duration(limit_ms)))
    });
    format!(
        "{} 个请求中有 {} 个（{}）达到了要求：{}。",
        facts.requests,
        facts.good,
        percent(facts.share),
        limits.collect::<Vec<_>>().join("，")
    )
}
