//! The plan as Markdown: every term of the sum, the line that vLLM's users look for, the answers.

use engine::budget::{Budget, Bytes, Demand, thousands};
use engine::{KvGroups, KvLayout};
use plan::balance::{Balance, Limit, Turn};
use plan::memory::{EngineSizes, Estimate, widest};
use plan::shape::{Experts, Shape, Weights};
use server::limits;

use super::engine::Origin;
use super::findings::Findings;
use crate::buffers::PROCESS_BYTES;
use crate::launch::Requirements;

/// A row of the table: what, how, how much.
type Row = (&'static str, String, String);

/// The whole plan.
pub(super) fn text(findings: &Findings) -> String {
    let mut text = format!("# Plan\n\n{}\n## Memory\n\n", facts(findings));
    text += "| term | how | value |\n|---|---|---:|\n";
    let rows = demand_rows(findings).into_iter().chain(budget_rows(findings));
    text.extend(rows.map(|(what, how, value)| format!("| {what} | {how} | {value} |\n")));
    if let Ok(budget) = &findings.answers.budget {
        text += &format!("\n{}\n", budget.log_line(findings.device.kind.word()));
    }
    text += "\n## Answers\n\n";
    text.extend(answers(findings).into_iter().map(|answer| format!("- {answer}\n")));
    if !findings.notes.is_empty() {
        text += "\n## Notes\n\n";
        text.extend(findings.notes.iter().map(|note| format!("- {note}\n")));
    }
    text
}

/// What is planned for.
fn facts(findings: &Findings) -> String {
    let Findings { shape, device, engine, .. } = findings;
    let sizes = &shape.sizes;
    let feed_forward = match shape.experts {
        Experts { count: 1, .. } => n(sizes.ffn),
        Experts { count, used, .. } => {
            format!("{} in each of {count} experts, of which a token takes {used}", n(sizes.ffn))
        }
    };
    let model = format!(
        "{}: {} layers, width {}, {} heads of {} ({} for keys and values), feed-forward {}, \
         vocabulary {}; {} parameters",
        shape.name,
        sizes.layers,
        n(sizes.width),
        sizes.heads,
        sizes.head_dim,
        sizes.kv_heads,
        feed_forward,
        n(sizes.vocabulary),
        n(shape.parameters())
    );
    let place = match &device.hardware {
        // Its name says how much memory it has.
        None => format!("{} (this machine)", device.name),
        Some(hardware) => {
            let memory = Bytes(device.memory.total_bytes);
            format!("{}, {memory} ({})", device.name, hardware.source)
        }
    };
    let how = match engine.origin {
        Origin::Serve(_) => "as `millrace serve` computes it from the file's header",
        Origin::Estimate(..) => "estimated, as vLLM finds it in the profile run at its start",
    };
    format!("| | |\n|---|---|\n| model | {model} |\n| device | {place} |\n| demand | {how} |\n")
}

fn demand_rows(findings: &Findings) -> Vec<Row> {
    match &findings.engine.origin {
        Origin::Serve(requirements) => serve_rows(requirements),
        Origin::Estimate(estimate, sizes) => estimate_rows(&findings.shape, estimate, sizes),
    }
}

fn serve_rows(requirements: &Requirements) -> Vec<Row> {
    let Requirements { demand, sizes, threads, requests, connections, .. } = requirements;
    vec![
        ("weights", "packed as the header says".into(), size(demand.weights_bytes)),
        (
            "activations",
            format!(
                "buffers of {threads} threads for {} tokens a step and {} rows of logits",
                n(sizes.step_tokens_max as u64),
                n(sizes.logits_rows_max as u64)
            ),
            size(demand.activation_bytes),
        ),
        (
            "buffers",
            format!(
                "process {} + request bodies and replies {} + {} connections x {} + {} requests x {}",
                Bytes(PROCESS_BYTES),
                Bytes(limits::BODIES_BYTES_IN_FLIGHT as u64),
                n(u64::from(connections.most)),
                Bytes(connections.bytes_each()),
                n(u64::from(*requests)),
                Bytes(limits::STREAM_BUFFER_BYTES as u64)
            ),
            size(demand.buffer_bytes),
        ),
    ]
}

fn estimate_rows(shape: &Shape, estimate: &Estimate, sizes: &EngineSizes) -> Vec<Row> {
    let parameters = n(shape.parameters());
    let weights = match shape.weights {
        Weights::Typed(dtype) => format!("{parameters} parameters, {dtype}"),
        Weights::Exact { .. } => format!("{parameters} parameters, as the header says"),
    };
    let (tokens, bytes) = (n(u64::from(sizes.max_num_batched_tokens)), shape.activation_bytes());
    let each = |elements: u64| format!("{tokens} tokens a step x {} x {bytes} bytes", n(elements));
    let shape_sizes = &shape.sizes;
    vec![
        ("weights", weights, size(estimate.weights_bytes)),
        ("hidden states", each(2 * shape_sizes.width), size(estimate.hidden_bytes)),
        ("widest moment of a layer", each(widest(shape)), size(estimate.widest_bytes)),
        (
            "choosing tokens",
            format!(
                "{} sequences x {} logits x {} bytes",
                n(u64::from(sizes.max_num_seqs)),
                n(shape_sizes.vocabulary),
                estimate.sampling_bytes / (u64::from(sizes.max_num_seqs) * shape_sizes.vocabulary)
            ),
            size(estimate.sampling_bytes),
        ),
        (
            "activations",
            "hidden states + the larger of the two after them".into(),
            size(estimate.activation_bytes()),
        ),
        ("buffers", "handles and workspaces of libraries, flat".into(), size(estimate.other_bytes)),
        (
            "keys and values of a token",
            format!(
                "2 x {} layers x {} heads x {} x {} bytes",
                shape_sizes.layers,
                shape_sizes.kv_heads,
                shape_sizes.head_dim,
                sizes.kv_dtype.bytes()
            ),
            format!("{} bytes", n(estimate.token_bytes)),
        ),
    ]
}

fn budget_rows(findings: &Findings) -> Vec<Row> {
    let Demand { block_bytes, block_size, .. } = findings.engine.demand;
    let groups = findings.engine.demand.kv_groups.count();
    let block = match groups {
        1 => ("a block", format!("{block_size} tokens"), size(block_bytes)),
        _ => (
            "a block",
            format!("{block_size} tokens in 1 of {groups} groups of layers"),
            size(block_bytes),
        ),
    };
    let mut rows = vec![block];
    let Ok(budget) = &findings.answers.budget else { return rows };
    let memory = &budget.memory;
    let given = match memory.kv_cache_bytes {
        Some(bytes) => ("KV cache", "as given".into(), size(bytes)),
        None => {
            let how = format!("{} x {}", memory.utilization, Bytes(memory.total_bytes));
            let limit = (memory.total_bytes as f64 * memory.utilization).ceil() as u64;
            rows.push(("budget", how, size(limit)));
            let rest = "budget - weights - activations - buffers, in whole blocks";
            ("KV cache", rest.into(), size(budget.kv_bytes))
        }
    };
    rows.push(given);
    rows.extend(block_rows(budget));
    rows
}

fn block_rows(budget: &Budget) -> [Row; 3] {
    let Demand { block_bytes, max_model_len, .. } = budget.demand;
    let each = n(budget.demand.blocks_of(max_model_len));
    let count = n(u64::from(budget.block_count));
    [
        ("blocks", format!("KV cache / {} bytes", n(block_bytes)), count.clone()),
        (
            "blocks of a request",
            blocks_of_request(&budget.demand.kv_layout(), max_model_len),
            each.clone(),
        ),
        (
            "maximum concurrency",
            format!("{count} / {each}"),
            format!("{:.2}x", budget.max_concurrency()),
        ),
    ]
}

/// How many blocks a request of so many tokens takes, of each group of layers that there is.
fn blocks_of_request(layout: &KvLayout, tokens: u32) -> String {
    let KvGroups { full, windowed, window } = layout.groups;
    let all = format!("{} tokens / {}, rounded up", n(u64::from(tokens)), layout.block_size);
    let in_window = format!("a window of {} and a step", n(u64::from(window)));
    match (full, windowed) {
        (_, 0) => all,
        (0, 1) => in_window,
        _ => format!("{full} x {all} + {windowed} x {in_window}"),
    }
}

/// The answers in sentences; of what does not fit only those that say what would.
fn answers(findings: &Findings) -> Vec<String> {
    let (fits, for_users) = (fits(findings), for_users(findings));
    match findings.answers.budget {
        Ok(_) => vec![fits, how_many(findings), for_users, what_binds(findings)],
        Err(_) => vec![fits, for_users],
    }
}

fn fits(findings: &Findings) -> String {
    let len = n(u64::from(findings.engine.demand.max_model_len));
    let error = match &findings.answers.budget {
        Ok(budget) => {
            let all = Bytes(budget.total_bytes());
            let total = Bytes(budget.memory.total_bytes);
            let least = share(findings.answers.utilization_for_one);
            return format!(
                "**Does it fit?** Yes: {all} of {total}. One request of {len} tokens needs a \
                 utilisation of {least}."
            );
        }
        Err(error) => error,
    };
    let longest = findings.answers.model_len_max.map_or_else(
        || "no request fits, however short".to_string(),
        |len| format!("requests of up to {} tokens fit", n(u64::from(len))),
    );
    let least = findings.answers.utilization_for_one;
    let instead = if least <= 1.0 {
        format!("one of {len} tokens fits from a utilisation of {} on", share(least))
    } else {
        format!("one of {len} tokens needs {} times the device's memory", share(least))
    };
    format!("**Does it fit?** No: {error}. As it is {longest}; {instead}.")
}

fn how_many(findings: &Findings) -> String {
    let length = n(u64::from(findings.question.length));
    format!(
        "**How many at this length?** {} requests of {length} tokens at once ({:.2}).",
        n(findings.answers.concurrency as u64),
        findings.answers.concurrency
    )
}

fn for_users(findings: &Findings) -> String {
    let users = n(u64::from(findings.question.users));
    let length = n(u64::from(findings.question.length));
    let (needed, bytes) =
        (findings.answers.utilization_for_users, Bytes(findings.answers.bytes_for_users));
    let what = if needed <= 1.0 {
        format!("a utilisation of {}", share(needed))
    } else {
        format!("more than this device has, {} times its memory", share(needed))
    };
    let cap = findings.engine.max_num_seqs;
    let waiting = if cap < findings.question.users {
        format!("; and `--max-num-seqs` of {users}, since only {cap} run at once")
    } else {
        String::new()
    };
    format!(
        "**What would {users} users need?** With {length} tokens each {bytes}: {what}{waiting}."
    )
}

fn what_binds(findings: &Findings) -> String {
    let first = match findings.first_limit() {
        Limit::Cap => "The cap on sequences",
        Limit::KvCache => "The KV cache",
        Limit::Compute => "Arithmetic",
    };
    let cap = findings.engine.max_num_seqs;
    let room = n(findings.answers.concurrency as u64);
    let compute = match (findings.balance, findings.turn()) {
        (None, _) => {
            "the speed of this machine was not measured (`millrace roofline --json FILE`, \
                      then `--device FILE`)"
                .to_string()
        }
        (_, Turn::Unknown) => "the maker does not say how fast the device multiplies".to_string(),
        (Some(balance), turn) => compute(balance, turn),
    };
    format!(
        "**What binds first?** {first}: `max_num_seqs` lets {cap} sequences run, keys and values \
         have room for {room}, and {compute}."
    )
}

fn compute(balance: Balance, turn: Turn) -> String {
    let arithmetic = time(balance.arithmetic_s.unwrap_or_default());
    let (kv, weights) = (time(balance.kv_s), time(balance.weights_s));
    let from = match turn {
        Turn::At(sequences) => {
            format!("from {} sequences on a step waits for it", n(sequences.ceil() as u64))
        }
        _ => "no number of sequences makes a step wait for it".to_string(),
    };
    format!(
        "as to arithmetic {from} (each adds {arithmetic} of it and {kv} of reading, beside {weights} \
         for the weights)"
    )
}

/// A number with its thousands set apart.
fn n(number: u64) -> String {
    thousands(number)
}

fn size(bytes: u64) -> String {
    Bytes(bytes).to_string()
}

/// A share of memory, with up to four digits.
fn share(value: f64) -> String {
    format!("{value:.4}")
}

/// A time in a unit that suits it.
fn time(seconds: f64) -> String {
    match seconds * 1e6 {
        us if us < 1e3 => format!("{us:.1} us"),
        us => format!("{:.2} ms", us / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_request_are_those_of_the_groups_that_there_are() {
        let words = |full, windowed| {
            let groups = KvGroups { full, windowed, window: 4096 };
            blocks_of_request(&KvLayout { block_size: 32, groups, step_max: 256 }, 32_768)
        };
        assert_eq!(words(1, 0), "32,768 tokens / 32, rounded up");
        assert_eq!(words(0, 1), "a window of 4,096 and a step");
        let both = "1 x 32,768 tokens / 32, rounded up + 5 x a window of 4,096 and a step";
        assert_eq!(words(1, 5), both);
    }

    #[test]
    fn times_are_in_a_unit_that_suits_them() {
        assert_eq!(time(7.19e-6), "7.2 us");
        assert_eq!(time(9.996e-4), "999.6 us");
        assert_eq!(time(0.0123), "12.30 ms");
    }
}
