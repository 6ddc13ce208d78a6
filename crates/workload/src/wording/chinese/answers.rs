//! What came back.

use super::{all_of, each, of, percent};
use crate::analysis::Finding;
use crate::level::LevelName;
use crate::slo::{Goodput, Slo};
use crate::wording::{fine_percent, time};

pub(super) fn text(finding: &Finding) -> String {
    match finding {
        Finding::Goodput { levels } => format!(
            "Goodput，即满足全部限值（{}）的请求：{}。",
            levels.first().map_or(String::new(), |(_, goodput)| limits(goodput.slo)),
            each(levels, "；", |(level, goodput)| good(*level, goodput))
        ),
        Finding::StoppedEarly { level, stopped, answers } => format!(
            "{} 时，{answers} 个回答中有 {stopped} 个提前结束，服务器给出的原因是 `stop`：它没有执行 \
             `ignore_eos`，但也许支持 `min_tokens`。",
            of(*level)
        ),
        Finding::OtherLength { level, requests, asked, min, max } => format!(
            "{} 时，有 {requests} 个回答的长度不是所要求的{}，实际为 {min} 到 {max} 个。服务器可能没有执行 \
             `ignore_eos`，或者其长度上限更低；只有长度相同的各档才可以互相比较。",
            of(*level),
            asked.map_or(" token 数".to_owned(), |asked| format!(" {asked} 个 token"))
        ),
        Finding::ChunkMismatch { levels } => format!(
            "此处一个数据块不等于一个 token：{}。token 数以服务器的计数为准，数据块之间的间隔（ICL）不是 \
             token 之间的间隔（ITL）。",
            each(levels, "；", |(level, check)| {
                format!(
                    "{} 时，服务器计得生成 {} 个 token，而收到 {} 个带文本的数据块（相差 {}）",
                    of(*level),
                    check.usage_tokens,
                    check.chunks,
                    fine_percent(check.mismatch)
                )
            })
        ),
        Finding::ChunksCounted { levels } => format!(
            "{} 时，服务器没有返回 usage：Num Generated Tokens 和吞吐量按流中的数据块计数，而一个数据块\
             可能包含多个 token。",
            all_of(levels)
        ),
        Finding::PromptLength { asked, used } => prompt_length(*asked, *used),
        Finding::PrefixCache { level, share, is_meant: true } => format!(
            "{} 时，{} 的 prompt token 来自服务器的前缀缓存，因为 prompt 的开头与其他请求相同：这部分不需要 prefill。",
            of(*level),
            percent(*share)
        ),
        Finding::PrefixCache { level, share, is_meant: false } => format!(
            "{} 时，{} 的 prompt token 来自服务器的前缀缓存，而本次测试的 prompt 互不相同：可能是此前\
             使用相同种子的测试留下的，因此 TTFT 偏低。",
            of(*level),
            percent(*share)
        ),
        Finding::EvidenceMissing { gauges, queue_times } => missing(*gauges, *queue_times),
        Finding::Percentiles { p95, p99 } => percentiles(p95, p99),
        _ => unreachable!("its subject is another"),
    }
}

fn limits(slo: Slo) -> String {
    let limit = |name: &str, ms: Option<f64>| ms.map(|ms| format!("{name} {}", time(ms)));
    let all = [limit("TTFT", slo.ttft_ms), limit("TPOT", slo.tpot_ms), limit("E2E", slo.e2e_ms)];
    all.into_iter().flatten().collect::<Vec<_>>().join("，")
}

fn good(level: LevelName, goodput: &Goodput) -> String {
    let rate = match goodput.per_second {
        Some(rate) => format!("，每秒 {rate:.2} 个"),
        None => String::new(),
    };
    let missed =
        [("TTFT", goodput.missed_ttft), ("TPOT", goodput.missed_tpot), ("E2E", goodput.missed_e2e)];
    let missed: Vec<_> = missed.into_iter().filter(|(_, count)| 0 < *count).collect();
    let missed = match missed.is_empty() {
        true => String::new(),
        false => format!(
            "（超出限值的回答：{}）",
            each(&missed, "，", |(name, count)| format!("{name} {count} 个"))
        ),
    };
    format!(
        "{} 时为 {}，{} 个请求中有 {} 个{rate}{missed}",
        of(level),
        percent(goodput.share),
        goodput.requests,
        goodput.good
    )
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

fn percentiles(p95: &[LevelName], p99: &[LevelName]) -> String {
    let mut parts = Vec::new();
    if !p95.is_empty() {
        parts.push(format!("{} 时的 P95（少于 59 个请求）", all_of(p95)));
    }
    if !p99.is_empty() {
        parts.push(format!("{} 时的 P99（少于 299 个请求）", all_of(p99)));
    }
    format!(
        "百分位数按线性插值计算。以下百分位数的样本太少，不能以 95% 的置信度给出上界，只是向最大值的插值：{}。",
        parts.join("；")
    )
}
