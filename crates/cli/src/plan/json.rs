//! The plan for programs. Sizes are in bytes, times in seconds; what is not known is null.

use engine::budget::Demand;
use plan::balance::{Limit, Turn};
use serde_json::{Value, json};

use super::engine::Origin;
use super::findings::Findings;

/// The plan as JSON.
pub(super) fn text(findings: &Findings) -> String {
    let text = serde_json::to_string_pretty(&value(findings));
    text.expect("text and numbers are always JSON") + "\n"
}

fn value(findings: &Findings) -> Value {
    let Findings { shape, device, engine, question, answers, balance, notes } = findings;
    let Demand {
        weights_bytes,
        activation_bytes,
        buffer_bytes,
        block_bytes,
        block_size,
        kv_groups,
        ..
    } = engine.demand;
    let budget = answers.budget.as_ref();
    let turn = findings.turn();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": {
            "name": shape.name,
            "parameters": shape.parameters(),
            "layers": shape.sizes.layers,
            "width": shape.sizes.width,
            "heads": shape.sizes.heads,
            "kv_heads": shape.sizes.kv_heads,
            "head_dim": shape.sizes.head_dim,
            "ffn": shape.sizes.ffn,
            "vocabulary": shape.sizes.vocabulary,
        },
        "device": { "name": device.name, "memory_bytes": device.memory.total_bytes },
        "is_estimate": matches!(engine.origin, Origin::Estimate(..)),
        "weights_bytes": weights_bytes,
        "activation_bytes": activation_bytes,
        "buffer_bytes": buffer_bytes,
        "block_bytes": block_bytes,
        "block_size": block_size,
        "kv_groups": { "full": kv_groups.full, "windowed": kv_groups.windowed, "window": kv_groups.window },
        "memory_utilization": engine.memory.utilization,
        "kv_cache_memory_bytes": engine.memory.kv_cache_bytes,
        "max_model_len": engine.demand.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "fits": budget.is_ok(),
        "error": budget.err().map(ToString::to_string),
        "block_count": budget.ok().map(|budget| budget.block_count),
        "kv_bytes": budget.ok().map(|budget| budget.kv_bytes),
        "kv_tokens": budget.ok().map(|budget| budget.kv_tokens()),
        "max_concurrency": budget.ok().map(|budget| budget.max_concurrency()),
        "max_model_len_that_fits": answers.model_len_max,
        "utilization_for_one": answers.utilization_for_one,
        "length": question.length,
        "concurrency_at_length": answers.concurrency,
        "users": question.users,
        "utilization_for_users": answers.utilization_for_users,
        "bytes_for_users": answers.bytes_for_users,
        "binds_first": budget.ok().map(|_| match findings.first_limit() {
            Limit::Cap => "max_num_seqs",
            Limit::KvCache => "kv_cache",
            Limit::Compute => "compute",
        }),
        "step": balance.map(|balance| json!({
            "weights_s": balance.weights_s,
            "kv_per_sequence_s": balance.kv_s,
            "arithmetic_per_sequence_s": balance.arithmetic_s,
            "compute_binds_from": match turn {
                Turn::At(sequences) => Some(sequences),
                Turn::Never | Turn::Unknown => None,
            },
        })),
        "notes": notes,
    })
}
