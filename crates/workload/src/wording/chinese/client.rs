//! How requests were sent and ended.

use super::{all_of, each, of, percent};
use crate::analysis::{Finding, Fitness, LevelBreaches};
use crate::level::LevelName;
use crate::validity::{Breach, Verdict};
use crate::wording::{fine_percent, time};

pub(super) fn text(finding: &Finding) -> String {
    match finding {
        Finding::ClientUnfit { verdict, levels, same_host } => unfit(*verdict, levels, *same_host),
        Finding::Interrupted { level, levels_not_run } => interrupted(*level, levels_not_run),
        Finding::Continued { levels } => {
            format!("测试曾被中断，后来继续：{} 的各档是在中断之前测得的。", all_of(levels))
        }
        Finding::Failures { level, failed, sent, first } => format!(
            "{} 时，{sent} 个请求中有 {failed} 个失败；失败的请求只计入 Total Requests，不计入其他指标。\
             第一个失败的信息：{first}",
            of(*level)
        ),
        Finding::Refusals { level, refused, sent, first } => format!(
            "{} 时，服务器暂时拒绝了 {sent} 个请求中的 {refused} 个：其队列已满或尚未就绪。各项数据只描述\
             其余请求，它们所处的并发低于所要求的。第一个被拒绝的信息：{first}",
            of(*level)
        ),
        Finding::Dropped { level, dropped, due } => format!(
            "{} 时，{due} 个到期的请求中有 {dropped} 个因在途请求过多而从未发送：没有达到所要求的速率，\
             数据中缺少本应等待最久的请求。",
            of(*level)
        ),
        Finding::Delivered { levels } => delivered(levels),
        Finding::ClientFit { fitness } => fit(fitness),
        _ => unreachable!("its subject is another"),
    }
}

fn unfit(verdict: Verdict, levels: &[LevelBreaches], same_host: bool) -> String {
    let head = match verdict {
        Verdict::Invalid => "INVALID（无效）：客户端不具备测量条件，因此以下不是服务器的数据。",
        Verdict::Warning | Verdict::Valid => {
            "WARNING（警告）：客户端超出了一项限值，因此数据不够可靠。"
        }
    };
    let levels = each(levels, "；", |level| {
        format!("{} 时，{}", of(level.level), each(&level.breaches, "，", breach))
    });
    let host = match same_host {
        true => "客户端与服务器在同一台机器上：请给客户端单独的核或机器，或减少服务器的线程数。",
        false => "",
    };
    format!("{head}超出的限值：{levels}。{host}")
}

fn breach(breach: &Breach) -> String {
    match breach {
        Breach::ScheduleLag { p99_ms, limit_ms } => {
            format!("请求最多晚发送 {}（P99，限值 {}）", time(*p99_ms), time(*limit_ms))
        }
        Breach::Delivered { share, limit } => {
            format!("只达到所要求负载的 {}（限值 {}）", fine_percent(*share), percent(*limit))
        }
        Breach::ClientCpu { share, limit } => {
            format!("负载线程占用一个核的 {}（限值 {}）", percent(*share), percent(*limit))
        }
        Breach::Heartbeat { p99_ms, limit_ms } => {
            format!("负载线程处理事务最多晚了 {}（P99，限值 {}）", time(*p99_ms), time(*limit_ms))
        }
        Breach::OpenFiles { missing } => {
            format!("系统允许打开的文件数少了 {missing} 个（见 `ulimit -n`）")
        }
    }
}

fn interrupted(level: Option<(LevelName, usize, usize)>, not_run: &[LevelName]) -> String {
    let mut text = String::from("测试在结束前被中断。");
    if let Some((level, ended, meant)) = level {
        text += &format!(
            "{} 的一档不完整：{meant} 个请求中只有 {ended} 个已经结束，其数据只描述这些请求，不能与其他\
             各档比较。",
            of(level)
        );
    }
    if !not_run.is_empty() {
        text += &format!("未执行的各档：{}。", all_of(not_run));
    }
    text
}

fn delivered(levels: &[(LevelName, f64)]) -> String {
    let part = |(level, mean): &(LevelName, f64)| match level {
        LevelName::Users(users) => format!("{users} 中 {mean:.2}"),
        LevelName::Schedule(_) => format!("{} 时 {mean:.2}", of(*level)),
    };
    format!(
        "实际并发（从首字节到结束的平均在途请求数，包括末尾部分用户已经完成的时间）：{}。",
        each(levels, "，", part)
    )
}

fn fit(fitness: &Fitness) -> String {
    let lag = format!("请求最多晚发送 {}（P99）", time(fitness.lag_p99_ms));
    let share = fitness
        .delivered_share
        .map(|share| format!("至少达到所要求负载的 {}", fine_percent(share)));
    let cpu = fitness
        .thread_cpu_share
        .map(|share| format!("负载线程最多占用一个核的 {}", percent(share)));
    let heartbeat =
        fitness.heartbeat_p99_ms.map(|ms| format!("其处理事务最多晚了 {}（P99）", time(ms)));
    let parts: Vec<_> = [Some(lag), share, cpu, heartbeat].into_iter().flatten().collect();
    let host = match (fitness.same_host, fitness.process_cpus, fitness.server_cpus) {
        (true, Some(client), Some(server)) => {
            format!("客户端与服务器在同一台机器上，最多分别占用 {client:.2} 和 {server:.2} 个核。")
        }
        (true, ..) => "客户端与服务器在同一台机器上。".to_owned(),
        (false, ..) => String::new(),
    };
    format!("客户端具备测量条件：{}。{host}", parts.join("；"))
}
