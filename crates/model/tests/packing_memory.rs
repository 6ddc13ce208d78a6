//! What packing a model at its load takes. The only test of its binary: it looks at the whole process.
#![cfg(target_os = "linux")]

use std::fs;

use kernels::blocks::BlockKind;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use model::dummy::DummyShape;
use model::file::ModelFile;
use model::quantization::Quantization;
use model::weights::Weights;

/// For the program's own pages, threads' stacks and the header.
const OTHER_BYTES: u64 = 8 << 20;

/// Makes /proc/self/status count the peak anew. Source: proc_pid_clear_refs(5).
fn forget_the_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("Linux has it");
}

/// The most memory that was resident since then, pages of files among it.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("peak memory");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

#[test]
fn packing_holds_no_more_than_the_packed_model_and_one_tensor() {
    // 56 matrices of half a MiB and one, 40 MiB together.
    let shape = DummyShape {
        hidden_size: 512,
        intermediate_size: 1024,
        layer_count: 8,
        head_count: 8,
        kv_head_count: 8,
        head_dim: 64,
        embedding_kind: BlockKind::Bf16,
        linear_kind: BlockKind::Bf16,
        ..DummyShape::tiny()
    };
    let folder = tempfile::tempdir().expect("temporary files can be made");
    let path = folder.path().join("model.gguf");
    fs::write(&path, shape.gguf(1)).expect("the folder is ours");
    let stored = fs::metadata(&path).expect("it was written").len();
    for quantization in [Quantization::Q4_K, Quantization::Q8_0] {
        forget_the_peak();
        let mut file = ModelFile::open(&path).unwrap_or_else(|error| panic!("{error}"));
        file.quantization = Some(quantization);
        let largest = file.tensors().iter().map(|tensor| 2 * tensor.rows() * tensor.cols()).max();
        let packed = Weights::bytes_of(&file);
        let bound = packed + largest.expect("tensors") + OTHER_BYTES;
        // A second copy of the model, packed or not, would not fit.
        assert!(bound < (2 * packed).min(stored), "{bound} {packed} {stored}");
        let weights = Weights::load(&mut file, &mut Cpu::new(2, Isa::detect()))
            .unwrap_or_else(|error| panic!("{error}"));
        let peak = peak_bytes();
        println!("{quantization:?}: packed {packed}, peak {peak}, at most {bound}");
        assert!(!weights.any_float());
        assert!(packed <= peak && peak <= bound, "{quantization:?}: {packed} {peak} {bound}");
    }
}
