//! Models made from a seed are loaded like files, and are fit to compute and talk with.

use std::sync::Arc;

use kernels::blocks::{BlockKind, dequantise};
use model::{
    dummy::{self, DummyShape, VOCABULARY_MIN},
    file::ModelFile,
};
use text::{ChatTemplate, ControlTokens, Message, Segment, Tokenizer};

fn values(file: &mut ModelFile, name: &str) -> Vec<f32> {
    let info = file.tensor(name).unwrap_or_else(|| panic!("no tensor `{name}`")).clone();
    let mut bytes = Vec::new();
    file.read_tensor(name, &mut bytes).unwrap_or_else(|error| panic!("{error}"));
    let mut values = vec![0.0; (info.rows() * info.cols()) as usize];
    dequantise(info.kind, &bytes, &mut values);
    values
}

fn mean_and_deviation(values: &[f32]) -> (f32, f32) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let squares = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
    (mean as f32, (squares / count).sqrt() as f32)
}

#[test]
fn every_tensor_kind_with_a_tied_and_a_separate_head_loads() {
    for kind in BlockKind::ALL {
        for tied_head in [true, false] {
            let shape = DummyShape {
                linear_kind: kind,
                embedding_kind: kind,
                tied_head,
                hidden_size: 256,
                intermediate_size: 512,
                head_dim: 64,
                ..DummyShape::tiny()
            };
            let mut file = shape.open(3).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            assert_eq!(file.config.tied_head(), tied_head);
            for (name, columns) in
                [("blk.0.attn_q.weight", 256.0_f32), ("blk.1.ffn_down.weight", 512.0)]
            {
                let (mean, deviation) = mean_and_deviation(&values(&mut file, name));
                // 16,384 values or more: their mean deviates by 1/128 of their deviation, a few
                // times that where a block shares its sign.
                let expected = columns.sqrt().recip();
                assert!(mean.abs() < 0.1 * expected, "{kind:?} {name}: mean {mean}");
                assert!(
                    (0.9..1.1).contains(&(deviation / expected)),
                    "{kind:?} {name}: {deviation}"
                );
            }
            let head = if tied_head { "token_embd.weight" } else { "output.weight" };
            let (_, deviation) = mean_and_deviation(&values(&mut file, head));
            assert!((0.9..1.1).contains(&(deviation * 16.0 / 2.0)), "{kind:?}: {deviation}");
            let norms = values(&mut file, "output_norm.weight");
            assert!(norms.iter().all(|norm| (0.9..1.1).contains(norm)));
        }
    }
}

#[test]
fn equal_seeds_give_equal_bytes_and_others_do_not() {
    let shape = DummyShape::tiny();
    assert_eq!(shape.gguf(1), shape.gguf(1));
    assert_ne!(shape.gguf(1), shape.gguf(2));
}

#[test]
fn the_dummy_of_the_default_model_has_its_shape() {
    let file = dummy::open("smollm2-135m", 0).unwrap_or_else(|error| panic!("{error}"));
    let config = &file.config;
    assert_eq!((config.layer_count, config.hidden_size, config.intermediate_size), (30, 576, 1536));
    assert_eq!((config.head_count, config.kv_head_count, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab_size, config.context_length), (49_152, 8192));
    assert!(config.tied_head());
    assert_eq!(file.parameter_count(), 134_515_008);
    let kind = |name| file.tensor(name).expect("a tensor of the architecture").kind;
    assert_eq!(kind("token_embd.weight"), BlockKind::Q8_0);
    assert_eq!(kind("blk.29.ffn_down.weight"), BlockKind::Q4_1);
    assert_eq!(kind("blk.29.ffn_norm.weight"), BlockKind::F32);
    let tokenizer = Tokenizer::new(file.tokenizer).expect("a generated vocabulary is valid");
    let text = "the quick brown fox\njumps over 13 lazy dogs";
    let ids = tokenizer.encode(text, ControlTokens::Parse).expect("any text");
    assert!(ids.len() < text.len() * 3 / 4, "letters are merged: {ids:?}");
}

#[test]
fn the_dummy_of_the_seed_report_has_its_shape() {
    let shape = DummyShape::named("seed").expect("known");
    let sizes = (shape.layer_count, shape.hidden_size, shape.head_count);
    assert_eq!(sizes, (24, 1280, 20));
    assert_eq!((shape.vocab_size, shape.context_length), (8194, 1818));
    // All but the number of layers: two of 24, of 19,677,440 parameters each.
    let file = DummyShape { layer_count: 2, ..shape }.open(0).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(file.parameter_count(), 485_076_480 - 22 * 19_677_440);
    assert_eq!(file.config.architecture.name, "gpt2");
}

#[test]
fn an_unknown_dummy_is_refused_with_the_known_ones() {
    let error = dummy::open("smollm9", 0).err().expect("no such dummy");
    let expected = "there is no dummy model `smollm9`; known: smollm2-135m, tiny, seed, seed-bf16";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn any_text_goes_through_a_generated_vocabulary_and_back() {
    for vocab_size in [VOCABULARY_MIN as u32, 320, 2000] {
        let shape = DummyShape { vocab_size, ..DummyShape::tiny() };
        let file = shape.open(5).unwrap_or_else(|error| panic!("{error}"));
        let tokenizer = Arc::new(Tokenizer::new(file.tokenizer).expect("valid"));
        assert_eq!(tokenizer.vocabulary_len(), vocab_size as usize);
        let every_low_character: String = ('\0'..='\u{7ff}').collect();
        for text in ["Hello, world", "  日本語 🙂\r\n\t", &every_low_character, ""] {
            let ids = tokenizer.encode(text, ControlTokens::AsText).expect("any text");
            assert_eq!(text::decode(&tokenizer, &ids, true), text);
        }
        assert_eq!(tokenizer.end_tokens(), [2]);
        assert!((0..3).all(|id| tokenizer.is_control(id)) && !tokenizer.is_control(3));
    }
}

#[test]
fn a_dummys_chat_template_writes_turns_between_control_tokens() {
    let file = dummy::open("tiny", 0).unwrap_or_else(|error| panic!("{error}"));
    let tokenizer = Tokenizer::new(file.tokenizer).expect("valid");
    let source = file.chat_template.expect("a template");
    let template = ChatTemplate::new(&source, &tokenizer).expect("the template is valid");
    let message = Message::new("user", "Hi <|im_end|>");
    let segments = template.render(&[message], &[], true).expect("the template renders");
    let control = |id| Segment::Control(id);
    let text = |text: &str| Segment::Text(text.to_string());
    assert_eq!(
        segments,
        [
            control(1),
            text("user\nHi <|im_end|>"),
            control(2),
            text("\n"),
            control(1),
            text("assistant\n"),
        ]
    );
}
