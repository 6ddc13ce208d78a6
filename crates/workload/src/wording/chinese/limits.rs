//! What held requests back.

use super::{of, percent};
use crate::analysis::{Finding, QueueSign, Signs, TwoGroups};
use crate::waits::PromptQueue;
use crate::wording::time;

pub(super) fn text(finding: &Finding) -> String {
    match finding {
        Finding::SequenceCap { .. } => sequence_cap(finding),
        Finding::CapUndecided { users, max_num_seqs, signs } => {
            undecided(*users, *max_num_seqs, signs)
        }
        Finding::QueuedBelowCap { users, max_num_seqs, queue } => format!(
            "Concurrency 为 {users} 时，{}，但并未达到 max_num_seqs={max_num_seqs}，也没有证据表明 KV \
             缓存已满：看不出它们在等待什么。",
            queued(queue)
        ),
        Finding::QueuedForPrompts { level, queue, max_num_batched_tokens } => {
            format!("{} 时，{}", of(*level), prompts(queue, *max_num_batched_tokens))
        }
        Finding::KvLimit { level, running, kv_usage, preemptions, queue } => {
            let preempted = match preemptions {
                Some(count) => format!("；发生了 {count} 次抢占，被抢占的请求需要重新计算"),
                None => String::new(),
            };
            let waited = queue.as_ref().map(|queue| format!("；{}", queued(queue)));
            format!(
                "{} 时 KV 缓存是瓶颈：有请求等待时其占用率最高达 {}，最多同时运行 {running} 个请求\
                 {preempted}{}。",
                of(*level),
                percent(*kv_usage),
                waited.unwrap_or_default()
            )
        }
        Finding::KvUndecided { level, kv_usage } => format!(
            "{} 时有请求等待，KV 缓存的占用率最高达 {}，但抢占、排队时间和同时接收 token 的流都没有显示\
             请求在等待它；因缺少第二个迹象，不下结论。",
            of(*level),
            percent(*kv_usage)
        ),
        Finding::Preempted { level, preemptions } => format!(
            "{} 时，服务器因 KV 缓存不足抢占了 {preemptions} 次正在运行的请求，并重新计算。",
            of(*level)
        ),
        Finding::NothingLimited { users, max_num_seqs, gauges, queue_times } => {
            nothing_limited(*users, *max_num_seqs, *gauges, *queue_times)
        }
        _ => unreachable!("its subject is another"),
    }
}

fn sequence_cap(finding: &Finding) -> String {
    let Finding::SequenceCap {
        users,
        cap,
        cap_is_known,
        queued,
        signs,
        predicted_wait_ms,
        measured_wait_ms,
        groups,
    } = finding
    else {
        unreachable!("the caller matched it");
    };
    let named =
        if *cap_is_known { format!("max_num_seqs={cap}") } else { format!("同时 {cap} 个") };
    let measured = match measured_wait_ms {
        Some(wait) => format!("实测 {}", time(*wait)),
        None => "此处无法实测".to_owned(),
    };
    let groups = groups.map(|groups| two_groups(&groups, *cap, *queued)).unwrap_or_default();
    format!(
        "Concurrency 为 {users} 时触发了并发上限（{named}），因此后来的请求只能排队：同一时刻有 {queued} \
         个请求在等待。依据：{}。按 (C - M) / X 预测的平均排队时间为 {}，{measured}。{groups}",
        evidence(signs),
        time(*predicted_wait_ms)
    )
}

/// Why the median shows nothing of a wait that the 95th percentile is made of.
fn two_groups(groups: &TwoGroups, cap: u32, queued: u32) -> String {
    let TwoGroups { shape, ttft_p50_ms, ttft_p95_ms } = groups;
    let at_once = match shape.at_once_p50_ms {
        Some(ms) => format!("其余请求在 {} 后（中位数）得到第一个 token", time(ms)),
        None => "没有请求更早得到第一个 token".to_owned(),
    };
    format!(
        "等待时间呈双峰分布：长度相同的回答同时结束，其位置同时空出，每放入 {cap} 个请求，其中 {queued} \
         个已等待约一个完整的服务时间（{}），其余几乎没有等待。因此 {} 个请求中有 {} 个等待过，平均 {}，\
         {at_once}；TTFT 的 P50（{}）来自得到位置的请求，P95（{}）来自没有得到位置的请求。",
        time(shape.service_ms),
        shape.requests,
        shape.waited,
        time(shape.waited_mean_ms.unwrap_or(0.0)),
        time(*ttft_p50_ms),
        time(*ttft_p95_ms)
    )
}

fn queued(queue: &QueueSign) -> String {
    format!(
        "{} 个后来的请求中有 {} 个在服务器队列中的时间超过服务时间的十分之一（最长 {}）",
        queue.later,
        queue.waited,
        time(queue.max_ms)
    )
}

fn prompts(queue: &PromptQueue, budget: Option<u32>) -> String {
    let budget = match (budget, queue.open_prompt_tokens) {
        (Some(budget), Some(open)) => format!(
            "；同时最多有 {open} 个 prompt token 待计算，而一步最多计算 {budget} 个\
             （max_num_batched_tokens）"
        ),
        _ => String::new(),
    };
    let follows = match queue.correlation {
        Some(correlation) => {
            format!("；等待时间随其间计算的 prompt 数增长（相关系数 {correlation:.2}）")
        }
        None => String::new(),
    };
    format!(
        "请求等待的是彼此的 prompt，而不是位置：{} 个请求在服务器队列中平均停留 {}。依据：其中 {} 的时间有 \
         prompt 正在计算，而偶然情况下应为 {}{follows}{budget}。同时到达的 prompt 要一步接一步地计算。",
        queue.waited,
        time(queue.mean_ms),
        percent(queue.covered),
        percent(queue.covered_by_chance)
    )
}

fn evidence(found: &Signs) -> String {
    crate::wording::signs(
        found,
        "；",
        [
            |signs| {
                let sign = signs.gauges?;
                Some(format!(
                    "服务器指标显示 {} 个请求在运行、{} 个在等待（占 {} 次读数的 {}）",
                    sign.running,
                    sign.waiting,
                    sign.samples,
                    percent(sign.share)
                ))
            },
            |signs| Some(queued(&signs.queue?)),
            |signs| {
                let sign = signs.streams?;
                Some(format!(
                    "同时接收 token 的流从未超过 {} 个，且有 {} 的时间恰为此数",
                    sign.top,
                    percent(sign.share)
                ))
            },
        ],
    )
}

fn undecided(users: u32, max_num_seqs: Option<u32>, signs: &Signs) -> String {
    let asked = match max_num_seqs {
        Some(cap) => format!("Concurrency 为 {users} 时用户数超过了 max_num_seqs={cap}"),
        None => format!("Concurrency 为 {users} 时服务器可能达到了某个上限"),
    };
    match signs.count() {
        0 => format!("{asked}，但测得的数据都没有显示请求在排队。"),
        _ => format!("{asked}，并有一个迹象（{}）；因缺少第二个迹象，不下结论。", evidence(signs)),
    }
}

fn nothing_limited(users: u32, cap: Option<u32>, gauges: bool, queue_times: bool) -> String {
    let seen = match (gauges, queue_times) {
        (true, true) => "服务器指标、排队时间和同时接收 token 的流数",
        (true, false) => "服务器指标和同时接收 token 的流数",
        (false, true) => "排队时间和同时接收 token 的流数",
        (false, false) => "同时接收 token 的流数（唯一的依据）",
    };
    match cap {
        Some(cap) if users <= cap => format!(
            "各档均未触发并发上限：最高并发为 {users}，而 max_num_seqs={cap}。从{seen}来看，也没有显示\
             出其他上限。"
        ),
        Some(_) | None => {
            format!("Concurrency 直到 {users}，从{seen}来看，服务器没有显示出并发上限。")
        }
    }
}
