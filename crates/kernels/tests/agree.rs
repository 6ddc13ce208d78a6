//! Every tier against the scalar one, and every batch against a row alone.

use std::io::Write;

use half::f16;
use kernels::activation::Activation;
use kernels::attention::{AttentionScratch, HeadRules, attention};
use kernels::blocks::{BlockKind, dequantise};
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::{KvCache, KvShape, KvType};
use kernels::matmul::{matmul, matmul_activated, matmul_add, matmul_gated, matmul_top};
use kernels::norm::{Norm, normalise};
use kernels::pack::PackedMatrix;
use kernels::quantise::Activations;
use kernels::rope::{Pairing, RopeTable, Rotation};
use kernels::share::{SequenceRows, share_out};
use proptest::prelude::*;

/// A small generator, so that shapes and values follow from one seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn float(&mut self) -> f32 {
        (self.next() % 20_001) as f32 / 10_000.0 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    /// A tensor of random codes; scales of either sign, some zero, some subnormal.
    fn tensor(&mut self, kind: BlockKind, values: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..kind.bytes_of(values)).map(|_| self.next() as u8).collect();
        for block in bytes.chunks_exact_mut(kind.block_bytes()) {
            match kind {
                BlockKind::F32 => block.copy_from_slice(&self.float().to_le_bytes()),
                BlockKind::F16 => block.copy_from_slice(&f16::from_f32(self.float()).to_le_bytes()),
                BlockKind::Bf16 => {
                    block.copy_from_slice(&half::bf16::from_f32(self.float()).to_le_bytes());
                }
                // Powers of two around 1/16, some so small that products are subnormal.
                BlockKind::Mxfp4 => {
                    let exponent = self.next() % 16;
                    block[0] = if exponent < 2 { exponent } else { 112 + exponent } as u8;
                }
                _ => {
                    for &at in kind.halves() {
                        block[at..at + 2].copy_from_slice(&self.scale().to_le_bytes());
                    }
                }
            }
        }
        bytes
    }

    fn scale(&mut self) -> f16 {
        match self.next() % 16 {
            0 => f16::ZERO,
            1 => f16::from_bits(3),
            _ => f16::from_f32(self.float() / 16.0),
        }
    }
}

/// The product of `rows` random rows with one or two random weights, on one set-up.
struct ProductCase {
    x: Vec<f32>,
    cols: usize,
    tensors: Vec<(BlockKind, usize, Vec<u8>)>,
}

impl ProductCase {
    /// `cols` columns, or as many more as make whole blocks of all kinds.
    fn new(seed: u64, kinds: &[(BlockKind, usize)], rows: usize, cols: usize) -> ProductCase {
        let mut random = Random(seed);
        let block = kinds.iter().map(|(kind, _)| kind.block_len()).max().unwrap();
        let cols = cols.next_multiple_of(block);
        let tensors =
            kinds.iter().map(|&(kind, n)| (kind, n, random.tensor(kind, n * cols))).collect();
        let mut x = random.floats(rows * cols);
        // Some rows have outliers.
        for _ in 0..x.len() / 64 {
            let at = random.next() as usize % x.len();
            x[at] *= 50.0;
        }
        ProductCase { x, cols, tensors }
    }

    fn packed(&self, cpu: &mut Cpu) -> Vec<PackedMatrix> {
        let pack = |(kind, n, bytes): &(BlockKind, usize, Vec<u8>)| {
            PackedMatrix::pack(&mut cpu.pool, *kind, (*n, self.cols), bytes)
        };
        self.tensors.iter().map(pack).collect()
    }

    fn run(&self, threads: usize, isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut cpu = Cpu::new(threads, isa);
        let packed = self.packed(&mut cpu);
        let weights: Vec<&PackedMatrix> = packed.iter().collect();
        let rows = x.len() / self.cols;
        let mut activations = Activations::new(rows, self.cols).with_floats(true);
        activations.quantise(&mut cpu, x);
        let mut out = vec![f32::NAN; rows * packed.iter().map(PackedMatrix::rows).sum::<usize>()];
        matmul(&mut cpu, &activations, &weights, &mut out);
        out
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Holds the product with a matrix of `n` rows of each kind and one of `m` rows of another kind against
/// the scalar tier's, in every tier that this machine has.
fn assert_products_agree(seed: u64, (rows, n, m, cols): (usize, usize, usize, usize)) {
    let kinds = BlockKind::ALL;
    for (at, first) in kinds.into_iter().enumerate() {
        let second = kinds[(at + 1 + seed as usize % (kinds.len() - 1)) % kinds.len()];
        let case = ProductCase::new(seed, &[(first, n), (second, m)], rows, cols);
        let scalar = case.run(1, Isa::Scalar, &case.x);
        for isa in Isa::all_available() {
            let out = case.run(2, isa, &case.x);
            assert_eq!(bits(&scalar), bits(&out), "{first:?} {second:?} {isa}");
        }
    }
}

#[test]
fn products_of_every_kind_have_the_bits_of_the_scalar_tier() {
    let tiers: Vec<String> = Isa::all_available().map(|isa| isa.to_string()).collect();
    // Past the capture of tests' output, so that a run shows what its machine could not test.
    writeln!(std::io::stderr(), "tiers tested: {}", tiers.join(", ")).expect("stderr is open");
    // One output and one block; a row alone; tiles that are just full, and one more of everything.
    let shapes = [(1, 1, 1, 32), (1, 150, 40, 256), (6, 64, 32, 512), (7, 65, 33, 544)];
    for (seed, shape) in (1..).zip(shapes) {
        assert_products_agree(seed, shape);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn products_of_any_shape_have_the_bits_of_the_scalar_tier(
        seed in any::<u64>(),
        (rows, n, m, blocks) in (1_usize..15, 1_usize..150, 1_usize..40, 1_usize..6),
    ) {
        assert_products_agree(seed, (rows, n, m, blocks * 32));
    }

    #[test]
    fn a_row_is_the_same_alone_and_in_any_batch(
        seed in any::<u64>(),
        (rows, n) in (2_usize..70, 1_usize..100),
    ) {
        for kind in BlockKind::ALL {
            let case = ProductCase::new(seed, &[(kind, n)], rows, 64);
            for isa in Isa::all_available() {
                let together = case.run(3, isa, &case.x);
                for (row, x) in case.x.chunks(case.cols).enumerate() {
                    let alone = case.run(1, isa, x);
                    let of_batch = &together[row * n..(row + 1) * n];
                    prop_assert_eq!(bits(&alone), bits(of_batch), "{:?} {}", kind, isa);
                }
            }
        }
    }
}

#[test]
fn the_largest_codes_do_not_overflow() {
    const COLS: usize = 24 * 32;
    for kind in BlockKind::ALL.into_iter().filter(|kind| kind.is_quantised()) {
        for (code, sign) in [(0xff_u8, 1.0), (0xff, -1.0), (0x7f, 1.0), (0x80, 1.0), (0x80, -1.0)] {
            let mut case = ProductCase::new(1, &[(kind, 20)], 7, COLS);
            for block in case.tensors[0].2.chunks_exact_mut(kind.block_bytes()) {
                let scales = block.to_vec();
                block.fill(code);
                for &at in kind.halves() {
                    block[at..at + 2].copy_from_slice(&scales[at..at + 2]);
                }
                if kind == BlockKind::Mxfp4 {
                    block[0] = scales[0];
                }
            }
            // Every code is the largest; in the last rows' first block every value is an outlier.
            case.x.fill(sign * 127.0);
            for row in case.x.chunks_exact_mut(COLS).skip(3) {
                row[1..32].fill(sign * 126.498);
                row[32..].fill(sign * 0.01);
            }
            let scalar = case.run(1, Isa::Scalar, &case.x);
            for isa in Isa::all_available() {
                let out = case.run(1, isa, &case.x);
                assert_eq!(bits(&scalar), bits(&out), "{kind:?} {code} {sign} {isa}");
            }
        }
    }
}

#[test]
fn norms_have_the_bits_of_the_scalar_tier() {
    let mut random = Random(9);
    // A row that is no whole number of lanes, as heads may be.
    let (x, weight, bias) = (random.floats(5 * 96), random.floats(96), random.floats(96));
    for norm in [Norm::rms(weight.clone(), 1e-5), Norm::layer(weight, bias, 1e-5)] {
        let run = |isa| {
            let mut out = Activations::new(5, 96).with_floats(true);
            normalise(&mut Cpu::new(2, isa), &x, &norm, &mut out);
            bits(out.floats().unwrap())
        };
        for isa in Isa::all_available() {
            assert_eq!(run(Isa::Scalar), run(isa), "{isa}");
        }
    }
}

#[test]
fn gated_products_have_the_bits_of_the_scalar_tier() {
    let case = ProductCase::new(4, &[(BlockKind::Q4_1, 72), (BlockKind::Q4_1, 72)], 9, 96);
    let run = |isa| {
        let mut cpu = Cpu::new(2, isa);
        let [gate, up] = [0, 1].map(|i| {
            let (kind, n, bytes) = &case.tensors[i];
            PackedMatrix::pack(&mut cpu.pool, *kind, (*n, 96), bytes)
        });
        let mut x = Activations::new(9, 96);
        x.quantise(&mut cpu, &case.x);
        let mut out = vec![f32::NAN; 9 * 72];
        matmul_gated(&mut cpu, &x, (&gate, &up, Activation::Silu), &mut out);
        bits(&out)
    };
    for isa in Isa::all_available() {
        assert_eq!(run(Isa::Scalar), run(isa), "{isa}");
    }
}

/// The first `count` of a row's outputs, greatest first, of equals the lowest column first; none if
/// one is not finite.
fn first_outputs(row: &[f32], count: usize) -> Option<Vec<(u32, f32)>> {
    let mut all: Vec<(u32, f32)> = (0..).zip(row.iter().copied()).collect();
    let finite = all.iter().all(|(_, value)| value.is_finite());
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(std::cmp::Ordering::Equal));
    all.truncate(count);
    finite.then_some(all)
}

#[test]
fn the_greatest_outputs_are_those_of_the_product_in_every_tier_with_any_threads() {
    for (seed, n, rows) in [(21, 1, 1), (22, 70, 7), (23, 150, 13), (24, 3000, 4)] {
        let mut case = ProductCase::new(seed, &[(BlockKind::Q8_0, n)], rows, 96);
        // All outputs of the last row are equal, those of the first are no numbers.
        case.x[(rows - 1) * 96..].fill(0.0);
        case.x[5] = f32::NAN;
        // Every fifth word is the one before it: ties.
        let word = case.tensors[0].2.len() / n;
        for later in (1..n).step_by(5) {
            case.tensors[0].2.copy_within((later - 1) * word..later * word, later * word);
        }
        let product = case.run(1, Isa::Scalar, &case.x);
        let counts: Vec<usize> = (0..rows).map(|row| [1, 5, 64, 20][row % 4]).collect();
        let rows_and_counts = product.chunks(n).zip(&counts);
        let expected: Vec<_> = rows_and_counts.map(|(row, &c)| first_outputs(row, c)).collect();
        assert_eq!(expected[0], None);
        for (isa, threads) in Isa::all_available().flat_map(|isa| [(isa, 1), (isa, 2), (isa, 3)]) {
            let mut cpu = Cpu::new(threads, isa);
            let (kind, _, bytes) = &case.tensors[0];
            let weight = PackedMatrix::pack(&mut cpu.pool, *kind, (n, 96), bytes);
            let mut x = Activations::new(rows, 96);
            x.quantise(&mut cpu, &case.x);
            let mut scratch = Vec::new();
            for _ in 0..2 {
                let top = matmul_top(&mut cpu, &x, (&weight, &counts), &mut scratch);
                assert_eq!(top, expected, "{n} outputs, {isa}, {threads} threads");
            }
        }
    }
}

#[test]
fn products_come_near_the_float_product() {
    for kind in BlockKind::ALL {
        let (rows, n) = (3, 40);
        let case = ProductCase::new(7, &[(kind, n)], rows, 576);
        let cols = case.cols;
        let out = case.run(2, Isa::detect(), &case.x);
        let mut weight = vec![0.0; n * cols];
        dequantise(kind, &case.tensors[0].2, &mut weight);
        let (mut error, mut size) = (0.0, 0.0);
        for row in 0..rows {
            for column in 0..n {
                let exact: f64 = (0..cols)
                    .map(|k| {
                        f64::from(case.x[row * cols + k]) * f64::from(weight[column * cols + k])
                    })
                    .sum();
                error += (f64::from(out[row * n + column]) - exact).powi(2);
                size += exact.powi(2);
            }
        }
        let limit = match kind {
            BlockKind::F32 | BlockKind::F16 => 1e-6,
            // Activations in bfloat16 are off by 2^-9 at most.
            BlockKind::Bf16 => 0.003,
            // 8-bit activations per 32 values: about 40 dB below the signal.
            _ => 0.01,
        };
        assert!(
            (error / size).sqrt() < limit,
            "{kind:?}: relative error {}",
            (error / size).sqrt()
        );
    }
}

#[test]
fn matmul_add_adds_to_what_is_there() {
    let case = ProductCase::new(3, &[(BlockKind::Q8_0, 24)], 5, 96);
    let product = case.run(1, Isa::detect(), &case.x);
    let mut cpu = Cpu::new(2, Isa::detect());
    let (kind, n, bytes) = &case.tensors[0];
    let weight = PackedMatrix::pack(&mut cpu.pool, *kind, (*n, 96), bytes);
    let mut x = Activations::new(5, 96).with_floats(true);
    x.quantise(&mut cpu, &case.x);
    let mut out: Vec<f32> = (0..product.len()).map(|i| i as f32).collect();
    matmul_add(&mut cpu, &x, &weight, &mut out);
    for (i, (out, product)) in out.iter().zip(&product).enumerate() {
        assert_eq!(*out, i as f32 + product);
    }
}

#[test]
fn biases_are_added_before_what_becomes_of_a_product_in_every_tier() {
    let case = ProductCase::new(17, &[(BlockKind::Q4_0, 40), (BlockKind::Bf16, 24)], 7, 96);
    let mut random = Random(18);
    let biases = [random.floats(40), random.floats(24)];
    let run = |isa, threads| {
        let mut cpu = Cpu::new(threads, isa);
        let packed: Vec<PackedMatrix> = (case.packed(&mut cpu).into_iter().zip(&biases))
            .map(|(matrix, bias)| matrix.with_bias(bias.clone()))
            .collect();
        let mut x = Activations::new(7, 96).with_floats(true);
        x.quantise(&mut cpu, &case.x);
        let mut out = vec![f32::NAN; 7 * 64];
        matmul(&mut cpu, &x, &[&packed[0], &packed[1]], &mut out);
        let mut activated = vec![f32::NAN; 7 * 40];
        let first = (&packed[0], Activation::GeluTanh);
        matmul_activated(&mut cpu, &x, first, &mut activated);
        (out, activated)
    };
    let plain = case.run(1, Isa::Scalar, &case.x);
    let (out, activated) = run(Isa::Scalar, 1);
    for (row, (plain, out)) in plain.chunks(64).zip(out.chunks(64)).enumerate() {
        for (i, bias) in biases.iter().flatten().enumerate() {
            assert_eq!(out[i], plain[i] + bias, "row {row} column {i}");
        }
        for (i, got) in activated[row * 40..(row + 1) * 40].iter().enumerate() {
            let x = f64::from(out[i]);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let expected = 0.5 * x * (1.0 + inner.tanh());
            assert!((f64::from(*got) - expected).abs() < 1e-5, "row {row} column {i}");
        }
    }
    for isa in Isa::all_available() {
        let (again, activated_again) = run(isa, 2);
        assert_eq!(bits(&out), bits(&again), "{isa}");
        assert_eq!(bits(&activated), bits(&activated_again), "{isa}");
    }
}

/// A gate and an up of 40 rows, and seven rows of activations: more than one register tile.
fn gated(isa: Isa, threads: usize) -> Vec<f32> {
    let case = ProductCase::new(11, &[(BlockKind::Q4_1, 40), (BlockKind::Q8_0, 40)], 7, 96);
    let mut cpu = Cpu::new(threads, isa);
    let [gate, up] = case.packed(&mut cpu).try_into().ok().unwrap();
    let mut x = Activations::new(7, 96);
    x.quantise(&mut cpu, &case.x);
    let mut out = vec![f32::NAN; 7 * 40];
    matmul_gated(&mut cpu, &x, (&gate, &up, Activation::Silu), &mut out);
    out
}

#[test]
fn gated_products_are_the_gates_sigmoid_times_both_in_every_tier() {
    let scalar = gated(Isa::Scalar, 1);
    for isa in Isa::all_available() {
        assert_eq!(bits(&scalar), bits(&gated(isa, 2)), "{isa}");
    }
    let case = ProductCase::new(11, &[(BlockKind::Q4_1, 40), (BlockKind::Q8_0, 40)], 7, 96);
    let products = case.run(1, Isa::Scalar, &case.x);
    for (row, out) in products.chunks(80).zip(scalar.chunks(40)) {
        for (i, out) in out.iter().enumerate() {
            let (gate, up) = (f64::from(row[i]), f64::from(row[40 + i]));
            let expected = gate / (1.0 + (-gate).exp()) * up;
            assert!((f64::from(*out) - expected).abs() < 1e-5 * (1.0 + expected.abs()));
        }
    }
}

const KV_TYPES: [KvType; 4] = [KvType::Bf16, KvType::F16, KvType::Int8, KvType::F32];

/// Sequences of one batch: position of the first row, number of rows.
type Rows = (usize, usize);

/// Keys, values and queries of whole sequences, to be attended in any cut.
struct AttentionCase {
    shape: KvShape,
    heads: usize,
    /// Per sequence [tokens, (heads + 2 kv_heads) * head_dim].
    qkv: Vec<Vec<f32>>,
    pairing: Pairing,
    norms: Option<[Norm; 2]>,
    window: Option<usize>,
}

impl AttentionCase {
    fn new(seed: u64, (heads, kv_heads, head_dim): (usize, usize, usize), lens: &[usize]) -> Self {
        let mut random = Random(seed);
        let width = (heads + 2 * kv_heads) * head_dim;
        let qkv = lens.iter().map(|len| random.floats(len * width)).collect();
        let shape = KvShape {
            layers: 2,
            kv_heads,
            head_dim,
            block_size: 64,
            block_count: 64,
            kind: KvType::Bf16,
        };
        AttentionCase { shape, heads, qkv, pairing: Pairing::Adjacent, norms: None, window: None }
    }

    /// The same with all that a layer may do to its heads, seeing so many tokens.
    fn with_rules(self, seed: u64, window: usize) -> Self {
        let (dim, mut random) = (self.shape.head_dim, Random(seed));
        let norms = [0, 1].map(|_| Norm::rms(random.floats(dim), 1e-5));
        AttentionCase { pairing: Pairing::Halves, norms: Some(norms), window: Some(window), ..self }
    }

    /// Of half the head, where pairs are of halves.
    fn rope(&self) -> RopeTable {
        let dim = self.shape.head_dim;
        let dims = if self.pairing == Pairing::Halves { dim / 2 } else { dim };
        RopeTable::new(2048, &Rotation::new(dims, 10_000.0, self.pairing))
    }

    /// Attends in steps, each with rows of some sequences; gives every token's output.
    fn run(&self, cpu: &mut Cpu, kind: KvType, steps: &[Vec<(usize, Rows)>]) -> Vec<Vec<f32>> {
        let mut cache = KvCache::new(KvShape { kind, ..self.shape });
        let rope = self.rope();
        let rules = HeadRules {
            norms: self.norms.as_ref().map(|[query, key]| [query, key]),
            rope: Some(&rope),
            scale: 1.0 / (self.shape.head_dim as f32).sqrt(),
            window: self.window,
        };
        let mut scratch = AttentionScratch::default();
        let width = self.heads * self.shape.head_dim;
        let qkv_width = width + 2 * self.shape.kv_heads * self.shape.head_dim;
        let mut out: Vec<Vec<f32>> =
            self.qkv.iter().map(|qkv| vec![f32::NAN; qkv.len() / qkv_width * width]).collect();
        // Tables that interleave the sequences' blocks, backwards.
        let tables: Vec<Vec<u32>> = (0..self.qkv.len() as u32)
            .map(|sequence| (0..16).map(|i| 63 - i * self.qkv.len() as u32 - sequence).collect())
            .collect();
        for step in steps {
            let mut qkv = Vec::new();
            let mut sequences = Vec::new();
            for &(sequence, (position, rows)) in step {
                let row = qkv.len() / qkv_width;
                let part = position * qkv_width..(position + rows) * qkv_width;
                qkv.extend_from_slice(&self.qkv[sequence][part]);
                let blocks = &tables[sequence][..(position + rows).div_ceil(64)];
                sequences.push(SequenceRows { row, rows, position, blocks });
            }
            let mut attended = Vec::new();
            // In two shares wherever a step can be cut; the second waits for the first's keys.
            for mut share in share_out(&mut cache, &sequences, 2) {
                let rows = share.rows();
                let qkv = &qkv[rows.start * qkv_width..rows.end * qkv_width];
                let mut outputs = Activations::new(rows.len(), width).with_floats(true);
                for _ in 0..self.shape.layers {
                    attention(cpu, &mut share, (qkv, rules), &mut scratch, &mut outputs);
                }
                attended.extend_from_slice(outputs.floats().unwrap());
            }
            for (&(sequence, (position, _)), rows) in step.iter().zip(&sequences) {
                let from = &attended[rows.row * width..(rows.row + rows.rows) * width];
                out[sequence][position * width..(position + rows.rows) * width]
                    .copy_from_slice(from);
            }
        }
        out
    }

    /// Attention in f64, token by token.
    fn exact(&self, sequence: usize) -> Vec<f64> {
        let (dim, kv_heads) = (self.shape.head_dim, self.shape.kv_heads);
        let rope = self.rope();
        let width = (self.heads + 2 * kv_heads) * dim;
        let mut rows: Vec<Vec<f32>> =
            self.qkv[sequence].chunks(width).map(<[f32]>::to_vec).collect();
        for (position, row) in rows.iter_mut().enumerate() {
            for (head, values) in row.chunks_mut(dim).take(self.heads + kv_heads).enumerate() {
                if let Some(norms) = &self.norms {
                    norms[usize::from(self.heads <= head)].apply(Isa::Scalar, values);
                }
                rope.rotate(position, values);
            }
        }
        let mut out = Vec::new();
        for (position, row) in rows.iter().enumerate() {
            for head in 0..self.heads {
                let kv_head = head / (self.heads / kv_heads);
                let at = |row: &[f32], part: usize, i: usize| f64::from(row[part * dim + i]);
                let score = |key: &[f32]| {
                    let dot = |i| at(row, head, i) * at(key, self.heads + kv_head, i);
                    (0..dim).map(dot).sum::<f64>() / (dim as f64).sqrt()
                };
                let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
                let seen = &rows[first..=position];
                let scores: Vec<f64> = seen.iter().map(|key| score(key)).collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for i in 0..dim {
                    let value = |(w, row): (&f64, &Vec<f32>)| {
                        w * at(row, self.heads + kv_heads + kv_head, i)
                    };
                    out.push(weights.iter().zip(seen).map(value).sum::<f64>() / sum);
                }
            }
        }
        out
    }
}

const LENS: [usize; 3] = [301, 70, 33];

/// All tokens of each sequence in one step.
fn whole() -> Vec<Vec<(usize, Rows)>> {
    vec![LENS.iter().enumerate().map(|(sequence, &len)| (sequence, (0, len))).collect()]
}

/// Chunks and single tokens in a crooked order, several sequences in some steps.
fn crooked() -> Vec<Vec<(usize, Rows)>> {
    let mut steps = vec![
        vec![(0, (0, 7)), (1, (0, 64))],
        vec![(2, (0, 32)), (0, (7, 249))],
        vec![(1, (64, 1)), (2, (32, 1)), (0, (256, 1))],
        vec![(0, (257, 43)), (1, (65, 5))],
    ];
    steps.push(vec![(0, (300, 1))]);
    steps
}

#[test]
fn attention_does_not_depend_on_chunks_batch_or_threads() {
    let cases =
        [(9, 3, 64), (4, 4, 32), (8, 1, 96)].map(|heads| AttentionCase::new(11, heads, &LENS));
    let windows = [1, 5, 40, 260];
    let with_rules =
        windows.map(|window| AttentionCase::new(12, (4, 2, 64), &LENS).with_rules(3, window));
    for case in cases.into_iter().chain(with_rules) {
        for isa in Isa::all_available() {
            for kind in KV_TYPES {
                let first = case.run(&mut Cpu::new(1, isa), kind, &whole());
                let second = case.run(&mut Cpu::new(3, isa), kind, &crooked());
                for (first, second) in first.iter().zip(&second) {
                    assert_eq!(bits(first), bits(second), "{:?} {isa} {kind}", case.window);
                }
            }
        }
    }
}

#[test]
fn attention_over_codes_and_with_avx2_has_the_bits_of_the_scalar_tier() {
    // Seven queries a KV head, so that tiles of 1 to 6 occur with heads of all sorts of lengths.
    let of = |heads| AttentionCase::new(13, heads, &LENS);
    let cases = [(7, 1, 64), (6, 2, 96), (2, 2, 256), (5, 1, 32)].map(of);
    for case in cases.into_iter().chain([of((7, 1, 64)).with_rules(4, 37)]) {
        for kind in KV_TYPES {
            let scalar = case.run(&mut Cpu::new(2, Isa::Scalar), kind, &crooked());
            let is_same = |isa: &Isa| kind == KvType::Int8 || *isa != Isa::Avx512;
            for isa in Isa::all_available().filter(is_same) {
                let out = case.run(&mut Cpu::new(2, isa), kind, &crooked());
                for (scalar, out) in scalar.iter().zip(&out) {
                    assert_eq!(bits(scalar), bits(out), "{:?} {isa} {kind}", case.shape);
                }
            }
        }
    }
}

#[test]
fn attention_comes_near_the_exact_result_in_every_tier() {
    let of = || AttentionCase::new(5, (6, 2, 64), &LENS);
    let with_rules = [1, 33, 100, 280].map(|window| of().with_rules(6, window));
    for case in [of()].into_iter().chain(with_rules) {
        comes_near_the_exact_result(&case);
    }
}

#[track_caller]
fn comes_near_the_exact_result(case: &AttentionCase) {
    let exact: Vec<Vec<f64>> = (0..LENS.len()).map(|sequence| case.exact(sequence)).collect();
    // Of values up to 1. bf16 keys, values, queries and weights have 8 bits each, f16 keys and
    // values 11; codes are off by 1/254 of the largest value at most.
    for (kind, limit) in
        [(KvType::F32, 1e-5), (KvType::F16, 0.001), (KvType::Bf16, 0.02), (KvType::Int8, 0.01)]
    {
        for isa in Isa::all_available() {
            let out = case.run(&mut Cpu::new(2, isa), kind, &whole());
            let worst = (out.iter().flatten().zip(exact.iter().flatten()))
                .map(|(got, exact)| (f64::from(*got) - exact).abs())
                .fold(0.0, f64::max);
            println!("{:?} {isa} {kind}: off by {worst:.6}", case.window);
            assert!(worst < limit, "{:?} {isa} {kind}: off by {worst}", case.window);
        }
    }
}

#[test]
fn memory_past_the_last_token_is_never_used() {
    let case = AttentionCase::new(6, (6, 2, 64), &[33]);
    // The same 33 tokens in a block whose further slots someone left full of NaN.
    let mut dirty = AttentionCase::new(6, (6, 2, 64), &[64]);
    dirty.qkv[0].fill(f32::NAN);
    dirty.qkv[0][..case.qkv[0].len()].copy_from_slice(&case.qkv[0]);
    let steps = [vec![(0, (33, 31))], vec![(0, (0, 33))]];
    for isa in Isa::all_available() {
        let mut cpu = Cpu::new(1, isa);
        for kind in KV_TYPES {
            let clean = case.run(&mut cpu, kind, &[vec![(0, (0, 33))]]);
            let reused = dirty.run(&mut cpu, kind, &steps);
            assert_eq!(bits(&clean[0]), bits(&reused[0][..clean[0].len()]), "{isa} {kind}");
        }
    }
}

#[test]
fn what_lies_before_the_window_is_never_read() {
    let window = 40;
    let case = AttentionCase::new(9, (6, 2, 64), &[300]).with_rules(10, window);
    let width = case.qkv[0].len() / 300;
    let mut dirty = AttentionCase::new(9, (6, 2, 64), &[300]).with_rules(10, window);
    // In whole tiles before what the last 40 tokens see, the keys and values are no numbers.
    dirty.qkv[0][..192 * width].fill(f32::NAN);
    for isa in Isa::all_available() {
        for kind in KV_TYPES {
            let clean = case.run(&mut Cpu::new(1, isa), kind, &[vec![(0, (0, 300))]]);
            let spoiled = dirty.run(&mut Cpu::new(1, isa), kind, &[vec![(0, (0, 300))]]);
            let last = (300 - window) * 6 * 64;
            assert_eq!(bits(&clean[0][last..]), bits(&spoiled[0][last..]), "{isa} {kind}");
        }
    }
}

#[test]
fn a_key_or_value_that_is_no_number_is_seen_from_its_row_on() {
    let mut case = AttentionCase::new(8, (6, 2, 64), &[40, 40]);
    let row = case.qkv[0].len() / 40;
    // Of the first KV head, in the key of the one sequence and in the value of the other.
    case.qkv[0][35 * row + 6 * 64 + 5] = f32::NAN;
    case.qkv[1][35 * row + 8 * 64 + 5] = f32::NAN;
    let steps = [vec![(0, (0, 35)), (1, (0, 35))], vec![(0, (35, 5)), (1, (35, 5))]];
    let whole = [vec![(0, (0, 40)), (1, (0, 40))]];
    for isa in Isa::all_available() {
        for kind in KV_TYPES {
            let chunks = case.run(&mut Cpu::new(1, isa), kind, &steps);
            let whole = case.run(&mut Cpu::new(1, isa), kind, &whole);
            for (out, whole) in chunks.iter().zip(&whole) {
                let before = 35 * 6 * 64;
                assert_eq!(bits(&out[..before]), bits(&whole[..before]), "{isa} {kind}");
                let first_heads = |token: usize| &out[token * 6 * 64..][..3 * 64];
                let is_finite = |token| first_heads(token).iter().all(|x| x.is_finite());
                assert!((0..35).all(is_finite), "{isa} {kind}");
                assert!(!(35..40).any(is_finite), "{isa} {kind}");
            }
        }
    }
}
