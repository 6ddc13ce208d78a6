//! What a well-formed file says of the model: its tensors, hyper-parameters and architecture.

use model::file::ModelFile;
use model::gguf::ValueKind;

use crate::pieces::{Pieces, accepted, array, float, number, refusal, refused, value, word, words};

#[test]
fn tensors_other_than_the_architectures_are_refused_by_name() {
    for name in ["position_embd.weight", "blk.0.attn_k.bias", "blk.1.attn_norm.weight"] {
        let message = format!(
            "tensor `{name}` of shape [32] is not part of a `llama` model as supported here: the \
             model would give wrong text without it"
        );
        refused("an extra tensor", &message, |p| p.add(name, vec![32]));
    }
    for index in 0..Pieces::valid().tensors.len() {
        let mut pieces = Pieces::valid();
        let removed = pieces.tensors.remove(index);
        let name = String::from_utf8(removed.name).expect("names of the valid file");
        let error = ModelFile::from_bytes(pieces.bytes()).err().expect("a tensor is missing");
        let message = error.to_string();
        assert!(message.starts_with(&format!("tensor `{name}` of shape")), "{message}");
        assert!(message.ends_with("is missing"), "{message}");
    }
    refused(
        "a head of the wrong shape",
        "tensor `output.weight`: shape [4, 16], expected [4, 32]",
        |p| p.add("output.weight", vec![16, 4]),
    );
    let untied = accepted("a head of its own", |p| p.add("output.weight", vec![32, 4]));
    assert!(!untied.config.tied_head());
    assert!(accepted("as it is", |_| ()).config.tied_head());
    refused(
        "a bias of queries alone",
        "tensor `blk.0.attn_k.bias` of shape [16] is missing",
        |p| p.add("blk.0.attn_q.bias", vec![32]),
    );
    refused(
        "divisors of as many frequencies as there are none",
        "tensor `rope_freqs.weight`: shape [32], expected [4]",
        |p| p.add("rope_freqs.weight", vec![32]),
    );
    refused(
        "divisors of two sorts",
        "metadata key `rope_freqs.weight`: beside rope_factors_long.weight is refused, expected one or the other",
        |p| {
            p.add("rope_freqs.weight", vec![4]);
            p.add("rope_factors_long.weight", vec![4]);
        },
    );
    refused(
        "divisors for long sequences, and nothing of how long those are",
        "metadata key `llama.rope.scaling.original_context_length` is missing",
        |p| p.add("rope_factors_long.weight", vec![4]),
    );
    assert!(
        accepted("divisors", |p| p.add("rope_freqs.weight", vec![4])).config.optional.rope_divisors
    );
}

#[test]
fn hyper_parameters_that_cannot_be_computed_with_are_refused() {
    let numbers = [
        "llama.vocab_size",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.rope.dimension_count",
    ];
    for key in numbers {
        for bad in [0, u32::MAX, 1 << 31] {
            let message = refusal(|p| p.set(key, number(bad)));
            assert!(message.contains(&format!("`{key}`: {bad} is refused")), "{message}");
        }
        let message = refusal(|p| p.set(key, value(ValueKind::I32, &(-1_i32).to_le_bytes())));
        assert!(message.contains("-1 is refused"), "{key}: {message}");
    }
    for (key, bad) in [
        ("llama.rope.freq_base", [0.0, -1.0, f32::NAN, f32::INFINITY]),
        ("llama.attention.layer_norm_rms_epsilon", [0.0, -1e-5, f32::NAN, 1.0]),
    ] {
        for bad in bad {
            let message = refusal(|p| p.set(key, float(bad)));
            assert!(message.contains(&format!("`{key}`: {bad} is refused")), "{message}");
        }
    }
    let message = refusal(|p| p.set("llama.attention.head_count_kv", number(3)));
    assert!(message.ends_with("expected a divisor of llama.attention.head_count, 4"), "{message}");
    let message = refusal(|p| {
        p.set("llama.attention.head_count", number(5));
        p.set("llama.attention.head_count_kv", number(5));
    });
    assert!(message.ends_with("expected a divisor of llama.embedding_length, 32"), "{message}");
    let message = refusal(|p| p.set("llama.attention.key_length", number(7)));
    assert!(message.contains("7 is refused, expected an even number"), "{message}");
    refused(
        "a vocabulary of another size",
        "metadata key `llama.vocab_size`: 5 is refused, expected 4, the number of tokens in \
         tokenizer.ggml.tokens",
        |p| p.set("llama.vocab_size", number(5)),
    );
    refused(
        "an embedding of another size",
        "tensor `token_embd.weight`: shape [4, 32], expected [3, 32]",
        |p| {
            p.remove("llama.vocab_size");
            p.set("tokenizer.ggml.tokens", words(&["<s>", "</s>", "a"]));
            p.set("tokenizer.ggml.token_type", array(ValueKind::I32, 3, &[1, 0, 0, 0].repeat(3)));
        },
    );
}

#[test]
fn what_would_change_the_computation_is_refused_by_name() {
    refused(
        "another architecture",
        "metadata key `general.architecture`: `mamba` is refused, expected one of `llama`, \
         `qwen2`, `qwen3`, `qwen3moe`, `gemma3`, `phi3`, `gpt2`",
        |p| p.set("general.architecture", word("mamba")),
    );
    for (key, value, shown) in [
        ("llama.rope.scale_linear", float(2.0), "2"),
        ("llama.attn_logit_softcapping", float(50.0), "50"),
        ("llama.expert_shared_count", number(1), "1"),
        ("llama.made_up_key", words(&["x"]), "an array of 1 texts"),
    ] {
        let message = format!(
            "metadata key `{key}` = {shown} is not supported: the model would give wrong text \
             without it"
        );
        refused("a key that is not understood", &message, |p| p.set(key, value));
    }
    for (key, value, message) in [
        ("llama.rope.scaling.type", word("dynamic"), "`dynamic` is refused, expected `none`"),
        ("llama.rope.scaling.type", word("yarn"), "`llama.rope.scaling.factor` is missing"),
        (
            "llama.rope.scaling.type",
            word("longrope"),
            "`llama.rope.scaling.original_context_length` is missing",
        ),
        ("llama.rope.scaling.factor", float(0.5), "0.5 is refused, expected 1 to 1e4"),
        ("llama.rope.scaling.factor", float(f32::NAN), "NaN is refused, expected 1 to 1e4"),
        ("llama.expert_count", number(8), "`llama.expert_used_count` is missing"),
        ("llama.expert_count", number(4096), "4096 is refused, expected 1 to 1024"),
        ("llama.attention.sliding_window", number(1 << 30), "is refused, expected 0 to 16777216"),
    ] {
        let found = refusal(|p| p.set(key, value));
        assert!(found.contains(message), "{key}: {found}");
    }
    for (key, value) in [
        ("llama.rope.scaling.type", word("none")),
        ("llama.attention.sliding_window", number(0)),
        ("llama.attn_logit_softcapping", float(0.0)),
        ("llama.expert_count", number(0)),
        ("general.made_up_key", number(1)),
        ("gemma3.block_count", number(1)),
    ] {
        accepted("a key that changes nothing", |p| p.set(key, value));
    }
    refused(
        "another tokenizer",
        "metadata key `tokenizer.ggml.model`: `bert` is refused, expected `gpt2` (byte-level BPE), \
         `llama` (SentencePiece's BPE) or `t5` (SentencePiece's unigram model)",
        |p| p.set("tokenizer.ggml.model", word("bert")),
    );
    refused("no scores", "metadata key `tokenizer.ggml.scores` is missing", |p| {
        p.set("tokenizer.ggml.model", word("llama"));
    });
}

#[test]
fn absent_keys_have_the_values_the_format_gives_them() {
    let file = accepted("no optional key", |p| {
        for key in [
            "llama.vocab_size",
            "llama.attention.head_count_kv",
            "llama.rope.freq_base",
            "llama.rope.dimension_count",
            "tokenizer.ggml.bos_token_id",
            "tokenizer.ggml.eos_token_id",
        ] {
            p.remove(key);
        }
        // As many heads for keys as for queries.
        for (name, rows) in [("attn_k", 32), ("attn_v", 32)] {
            p.tensors.retain(|tensor| tensor.name != format!("blk.0.{name}.weight").as_bytes());
            p.add(&format!("blk.0.{name}.weight"), vec![32, rows]);
        }
    });
    assert_eq!(file.config.kv_head_count, 4);
    assert_eq!(file.config.rope.as_ref().map(|rope| rope.theta), Some(10_000.0));
    assert_eq!((file.config.head_dim, file.config.window), (8, None));
    assert_eq!((file.tokenizer.bos, file.tokenizer.end_tokens), (None, vec![]));
    for key in [
        "general.architecture",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.merges",
    ] {
        refused(key, &format!("metadata key `{key}` is missing"), |p| p.remove(key));
    }
}
