//! Models of floats, packed as asked when they are loaded.

use kernels::blocks::BlockKind;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::pack::PackedMatrix;
use model::dummy::DummyShape;
use model::quantization::Quantization;
use model::weights::Weights;

#[test]
fn float_matrices_are_packed_as_asked_and_take_the_bytes_foretold() {
    for stored in [BlockKind::F32, BlockKind::F16, BlockKind::Bf16] {
        let shape = DummyShape {
            hidden_size: 256,
            intermediate_size: 160,
            embedding_kind: stored,
            linear_kind: stored,
            ..DummyShape::tiny()
        };
        for (quantization, square, down) in [
            (Quantization::Q8_0, BlockKind::Q8_0, BlockKind::Q8_0),
            (Quantization::Q4_1, BlockKind::Q4_1, BlockKind::Q4_1),
            (Quantization::Q4_K, BlockKind::Q4_K, BlockKind::Q4_1),
        ] {
            let mut file = shape.open(1).unwrap_or_else(|error| panic!("{error}"));
            file.quantization = Some(quantization);
            let kind = |name: &str| file.packed_kind(file.tensor(name).unwrap());
            assert_eq!(kind("token_embd.weight"), BlockKind::Q8_0);
            assert_eq!(kind("blk.0.ffn_up.weight"), square);
            assert_eq!(kind("blk.1.ffn_down.weight"), down);
            assert_eq!(kind("output_norm.weight"), BlockKind::F32);
            let attention = kind("blk.0.attn_output.weight");
            let foretold = Weights::bytes_of(&file);
            let weights = Weights::load(&mut file, &mut Cpu::new(2, Isa::detect()))
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(weights.head().kind(), BlockKind::Q8_0);
            let packed = &weights.layers[0].attention_output;
            assert_eq!(packed.kind(), attention);
            assert_eq!(packed.bytes(), PackedMatrix::bytes_of(attention, 256, 128));
            assert!(!weights.any_float());
            file.quantization = None;
            assert!(foretold < Weights::bytes_of(&file) * 6 / 10, "{foretold}");
        }
    }
}

#[test]
fn quantised_matrices_stay_as_the_file_has_them() {
    let mut file = DummyShape::tiny().open(1).unwrap_or_else(|error| panic!("{error}"));
    let before = Weights::bytes_of(&file);
    file.quantization = Some(Quantization::Q4_K);
    assert_eq!(Weights::bytes_of(&file), before);
}
