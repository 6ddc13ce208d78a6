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
        Finding::Continued { levels } => format!(
            "The run was interrupted and went on later: {} had been measured before.",
            all_of(levels)
        ),
        Finding::Failures { level, failed, sent, first } => format!(
            "At {}, {failed} of {sent} requests failed; they are counted in Total Requests and in \
             nothing else. The first one said: {first}",
            of(*level)
        ),
        Finding::Refusals { level, refused, sent, first } => format!(
            "At {}, the server refused {refused} of {sent} requests for the time being: its queue \
             was full or it was not ready. Figures are of the others, which had less company than \
             asked for. It said to the first one: {first}",
            of(*level)
        ),
        Finding::Dropped { level, dropped, due } => format!(
            "At {}, {dropped} of {due} requests were due but never sent, since too many were on \
             their way: the rate asked for was not delivered, and the figures lack the requests that \
             would have waited longest.",
            of(*level)
        ),
        Finding::Delivered { levels } => delivered(levels),
        Finding::ClientFit { fitness } => fit(fitness),
        _ => unreachable!("its subject is another"),
    }
}

fn unfit(verdict: Verdict, levels: &[LevelBreaches], same_host: bool) -> String {
    let head = match verdict {
        Verdict::Invalid => {
            "INVALID: the client was not fit to measure, so these are not the server's figures."
        }
        Verdict::Warning | Verdict::Valid => {
            "WARNING: the client breached a limit of its fitness, so its figures are less sure."
        }
    };
    let levels = each(levels, "; ", |level| {
        format!("at {}, {}", of(level.level), each(&level.breaches, ", ", breach))
    });
    let host = match same_host {
        true => {
            " Client and server share this machine: give the client a core or a machine of its \
                 own, or fewer threads to the server."
        }
        false => "",
    };
    format!("{head} Limits breached: {levels}.{host}")
}

fn breach(breach: &Breach) -> String {
    match breach {
        Breach::ScheduleLag { p99_ms, limit_ms } => format!(
            "requests were sent up to {} late (P99; limit {})",
            time(*p99_ms),
            time(*limit_ms)
        ),
        Breach::Delivered { share, limit } => format!(
            "only {} of the load asked for was delivered (limit {})",
            fine_percent(*share),
            percent(*limit)
        ),
        Breach::ClientCpu { share, limit } => format!(
            "the load's thread used {} of a core (limit {})",
            percent(*share),
            percent(*limit)
        ),
        Breach::Heartbeat { p99_ms, limit_ms } => format!(
            "the load's thread came up to {} late to what it had to do (P99; limit {})",
            time(*p99_ms),
            time(*limit_ms)
        ),
        Breach::OpenFiles { missing } => {
            format!("the system lets it open {missing} files too few (see `ulimit -n`)")
        }
    }
}

fn interrupted(level: Option<(LevelName, usize, usize)>, not_run: &[LevelName]) -> String {
    let mut text = String::from("The run was stopped before its end.");
    if let Some((level, ended, meant)) = level {
        text += &format!(
            " The level of {} is incomplete: {ended} of {meant} requests had ended, its figures \
             describe only those and do not compare with the others.",
            of(level)
        );
    }
    if !not_run.is_empty() {
        text += &format!(" Not run: {}.", all_of(not_run));
    }
    text
}

fn delivered(levels: &[(LevelName, f64)]) -> String {
    let part = |(level, mean): &(LevelName, f64)| match level {
        LevelName::Users(users) => format!("{mean:.2} of {users}"),
        LevelName::Schedule(_) => format!("{mean:.2} at {}", of(*level)),
    };
    format!(
        "Delivered concurrency, the number of requests on their way averaged from a level's first \
         byte to its end, when some users have already finished: {}.",
        each(levels, ", ", part)
    )
}

fn fit(fitness: &Fitness) -> String {
    let lag = format!("requests were sent at most {} late (P99)", time(fitness.lag_p99_ms));
    let share = fitness.delivered_share.map(|share| {
        format!("at least {} of the load asked for was delivered", fine_percent(share))
    });
    let cpu = fitness
        .thread_cpu_share
        .map(|share| format!("the load's thread used at most {} of a core", percent(share)));
    let heartbeat = fitness
        .heartbeat_p99_ms
        .map(|ms| format!("it came at most {} late to what it had to do (P99)", time(ms)));
    let parts: Vec<_> = [Some(lag), share, cpu, heartbeat].into_iter().flatten().collect();
    let host = match (fitness.same_host, fitness.process_cpus, fitness.server_cpus) {
        (true, Some(client), Some(server)) => format!(
            " Client and server share this machine, where they used up to {client:.2} and \
             {server:.2} cores."
        ),
        (true, ..) => " Client and server share this machine.".to_owned(),
        (false, ..) => String::new(),
    };
    format!("The client was fit to measure: {}.{host}", parts.join("; "))
}
