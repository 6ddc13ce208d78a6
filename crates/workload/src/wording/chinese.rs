//! Chinese.

use super::{list, percent, seconds};
use crate::analysis::{Finding, Signs};

pub(super) fn text(finding: &Finding) -> String {
    match finding {
        Finding::Interrupted { level, levels_not_run } => interrupted(*level, levels_not_run),
        Finding::Failures { users, failed, sent, first } => format!(
            "Concurrency 为 {users} 时，{sent} 个请求中有 {failed} 个失败；失败的请求只计入 Total \
             Requests，不计入其他指标。第一个失败的信息：{first}"
        ),
        Finding::SequenceCap { .. } => sequence_cap(finding),
        Finding::CapUndecided { users, max_num_seqs, signs } => {
            undecided(*users, *max_num_seqs, signs)
        }
        Finding::QueuedBelowCap { users, max_num_seqs, queue } => format!(
            "Concurrency 为 {users} 时，{} 个后来的请求中有 {} 个在服务器队列中的时间超过服务时间的\
             十分之一（最长 {}），但并未达到 max_num_seqs={max_num_seqs}，也没有证据表明 KV 缓存已满：\
             看不出它们在等待什么。",
            queue.later,
            queue.waited,
            seconds(queue.max_ms)
        ),
        Finding::KvLimit { .. } | Finding::Preempted { .. } => memory(finding),
        Finding::NothingLimited { users, max_num_seqs, gauges, queue_times } => {
            nothing_limited(*users, *max_num_seqs, *gauges, *queue_times)
        }
        Finding::OtherLength { users, requests, asked, min, max } => format!(
            "Concurrency 为 {users} 时，有 {requests} 个回答的长度不是所要求的{}，实际为 \
             {min} 到 {max} 个。服务器可能没有执行 `ignore_eos`，或者其长度上限更低；只有长度相同的\
             各档才可以互相比较。",
            asked.map_or(" token 数".to_owned(), |asked| format!(" {asked} 个 token"))
        ),
        Finding::ChunksCounted { levels } => format!(
            "Concurrency 为 {} 时，服务器没有返回 usage：Num Generated Tokens 和吞吐量按流中的数据块\
             计数，而一个数据块可能包含多个 token。",
            list(levels, "、")
        ),
        Finding::PromptLength { asked, used } => prompt_length(*asked, *used),
        Finding::PrefixCache { users, share } => format!(
            "Concurrency 为 {users} 时，{} 的 prompt token 来自服务器的前缀缓存，而本次测试的 prompt \
             互不相同：可能是此前使用相同种子的测试留下的，因此 TTFT 偏低。",
            percent(*share)
        ),
        Finding::EvidenceMissing { gauges, queue_times } => missing(*gauges, *queue_times),
        Finding::Delivered { levels } => delivered(levels),
        Finding::Percentiles { p95, p99 } => percentiles(p95, p99),
    }
}

fn interrupted(level: Option<(u32, usize, usize)>, not_run: &[u32]) -> String {
    let mut text = String::from("测试在结束前被中断。");
    if let Some((users, ended, meant)) = level {
        text += &format!(
            "Concurrency 为 {users} 的一档不完整：{meant} 个请求中只有 {ended} 个已经结束，其数据只\
             描述这些请求，不能与其他各档比较。"
        );
    }
    if !not_run.is_empty() {
        text += &format!("未执行的各档：Concurrency {}。", list(not_run, "、"));
    }
    text
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
    } = finding
    else {
        unreachable!("the caller matched it");
    };
    let named =
        if *cap_is_known { format!("max_num_seqs={cap}") } else { format!("同时 {cap} 个") };
    let measured = match measured_wait_ms {
        Some(wait) => format!("实测 {}", seconds(*wait)),
        None => "此处无法实测".to_owned(),
    };
    format!(
        "Concurrency 为 {users} 时触发了并发上限（{named}），因此后来的请求只能排队：同一时刻有 {queued} \
         个请求在等待。依据：{}。按 (C - M) / X 预测的平均排队时间为 {}，{measured}。",
        evidence(signs),
        seconds(*predicted_wait_ms)
    )
}

fn evidence(found: &Signs) -> String {
    super::signs(
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
            |signs| {
                let sign = signs.queue?;
                Some(format!(
                    "{} 个后来的请求中有 {} 个在服务器队列中的时间超过服务时间的十分之一（最长 {}）",
                    sign.later,
                    sign.waited,
                    seconds(sign.max_ms)
                ))
            },
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

fn memory(finding: &Finding) -> String {
    match finding {
        Finding::KvLimit { users, running, kv_usage, preemptions } => {
            let preempted = match preemptions {
                Some(count) => format!("；发生了 {count} 次抢占，被抢占的请求需要重新计算"),
                None => String::new(),
            };
            format!(
                "Concurrency 为 {users} 时 KV 缓存是瓶颈：有请求等待时其占用率最高达 {}，最多同时运行 \
                 {running} 个请求{preempted}。",
                percent(*kv_usage)
            )
        }
        Finding::Preempted { users, preemptions } => format!(
            "Concurrency 为 {users} 时，服务器因 KV 缓存不足抢占了 {preemptions} 次正在运行的请求，\
             并重新计算。"
        ),
        _ => unreachable!("the caller matched it"),
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
        Some(cap) => format!(
            "各档均未触发并发上限：最高并发为 {users}，而 max_num_seqs={cap}。从{seen}来看，也没有显示\
             出其他上限。"
        ),
        None => format!("Concurrency 直到 {users}，从{seen}来看，服务器没有显示出并发上限。"),
    }
}

fn prompt_length(asked: Option<u32>, used: Option<(u32, u32)>) -> String {
    match (asked, used) {
        (Some(asked), Some((min, max))) => {
            format!("prompt 长度为近似值：要求 {asked} 个 token，服务器计得 {min} 到 {max} 个。")
        }
        (None, Some((min, max))) => {
            format!("prompt 长度为近似值：服务器计得 {min} 到 {max} 个 token，与所要求的不符。")
        }
        (Some(asked), None) => format!(
            "prompt 长度为近似值：为 {asked} 个 token 发送了 {asked} 个单词，服务器没有说明其 token 数。"
        ),
        (None, None) => {
            "prompt 长度为近似值：每个 token 发送一个单词，服务器没有说明其 token 数。".to_owned()
        }
    }
}

fn missing(gauges: bool, queue_times: bool) -> String {
    let what = match (gauges, queue_times) {
        (true, true) => "运行和等待请求数的指标，也不提供排队时间",
        (true, false) => "运行和等待请求数的指标",
        _ => "请求的排队时间",
    };
    format!("服务器不提供{what}，因此只能从其余数据推断上限。")
}

fn delivered(levels: &[(u32, f64)]) -> String {
    let levels: Vec<_> =
        levels.iter().map(|(users, mean)| format!("{users} 中 {mean:.2}")).collect();
    format!(
        "实际并发（从首字节到结束的平均在途请求数，包括末尾部分用户已经完成的时间）：{}。",
        levels.join("，")
    )
}

fn percentiles(p95: &[u32], p99: &[u32]) -> String {
    let mut parts = Vec::new();
    if !p95.is_empty() {
        parts.push(format!("Concurrency 为 {} 时的 P95（少于 59 个请求）", list(p95, "、")));
    }
    if !p99.is_empty() {
        parts.push(format!("Concurrency 为 {} 时的 P99（少于 299 个请求）", list(p99, "、")));
    }
    format!(
        "百分位数按线性插值计算。以下百分位数的样本太少，不能以 95% 的置信度给出上界，只是向最大值的插值：{}。",
        parts.join("；")
    )
}
