//! Updates of low rank: against sums in double precision, every tier against the scalar one, and rows
//! alone against rows among others.

use kernels::activation::{Activation, activate, gate};
use kernels::blocks::BlockKind;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::low_rank::{Factors, LowRank, add_low_rank};
use kernels::matmul::{matmul, matmul_activated, matmul_gated};
use kernels::pack::PackedMatrix;
use kernels::quantise::Activations;

/// Numbers that look random in -1..1.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| {
        let mixed = ((i + 7_919 * seed) as u32).wrapping_mul(2_654_435_761);
        (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(number).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Rank, first column and outputs of each update of a product of so many columns.
struct Case {
    cols: usize,
    width: usize,
    updates: Vec<(usize, usize, usize)>,
}

impl Case {
    fn factors(&self) -> Vec<(Vec<f32>, Vec<f32>)> {
        let make = |(seed, &(rank, _, outputs)): (usize, &(usize, usize, usize))| {
            (numbers(rank * self.cols, 2 * seed + 1), numbers(outputs * rank, 2 * seed + 2))
        };
        self.updates.iter().enumerate().map(make).collect()
    }

    fn low_rank(&self) -> LowRank {
        let made = self.factors();
        let factors: Vec<_> = (self.updates.iter().zip(&made))
            .map(|(&(rank, column, _), (a, b))| Factors { a, b, rank, column })
            .collect();
        LowRank::new(self.cols, &factors)
    }

    /// The updates of `rows` of `x` added to `out`.
    fn run(&self, cpu: &mut Cpu, x: &[f32], rows: &[usize], out: &mut [f32]) {
        let count = x.len() / self.cols;
        let mut activations = Activations::new(count, self.cols).with_floats(true);
        activations.quantise(cpu, x);
        let scratch = LowRank::scratch_of(self.updates.iter().map(|update| update.0));
        // What is left there from earlier steps changes nothing.
        let mut scratch = vec![f32::NAN; scratch * rows.len()];
        add_low_rank(cpu, &activations, (&self.low_rank(), rows), &mut scratch, out);
    }

    /// What [`Case::run`] should give, in double precision, and what it may be off by.
    fn expected(&self, x: &[f32], rows: &[usize], out: &[f32]) -> Vec<(f64, f64)> {
        let mut expected: Vec<(f64, f64)> =
            out.iter().map(|&value| (f64::from(value), f64::from(value).abs())).collect();
        for (&(rank, column, outputs), (a, b)) in self.updates.iter().zip(self.factors()) {
            for &row in rows {
                let x = &x[row * self.cols..(row + 1) * self.cols];
                let dot = |a: &[f32]| -> (f64, f64) {
                    let terms = || a.iter().zip(x).map(|(a, x)| f64::from(*a) * f64::from(*x));
                    (terms().sum(), terms().map(f64::abs).sum())
                };
                let sums: Vec<_> = a.chunks(self.cols).map(dot).collect();
                for (output, b) in b.chunks(rank).enumerate().take(outputs) {
                    let found = &mut expected[row * self.width + column + output];
                    for (b, (sum, size)) in b.iter().zip(&sums) {
                        found.0 += f64::from(*b) * sum;
                        found.1 += f64::from(*b).abs() * size;
                    }
                }
            }
        }
        expected
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case { cols: 32, width: 32, updates: vec![(1, 0, 32)] },
        Case { cols: 96, width: 192, updates: vec![(8, 0, 96), (4, 96, 32), (7, 128, 64)] },
        // The product's other columns have no update.
        Case { cols: 576, width: 1024, updates: vec![(16, 320, 192)] },
    ]
}

#[test]
fn updates_are_those_of_double_precision_and_touch_nothing_else() {
    let rows = [1, 2, 5];
    for case in cases() {
        let x = numbers(7 * case.cols, 50);
        let before = numbers(7 * case.width, 60);
        let expected = case.expected(&x, &rows, &before);
        for isa in Isa::all_available() {
            let mut out = before.clone();
            case.run(&mut Cpu::new(2, isa), &x, &rows, &mut out);
            for (at, (found, (expected, size))) in out.iter().zip(&expected).enumerate() {
                let off = (f64::from(*found) - expected).abs();
                assert!(off <= 1e-6 * size, "{isa}, {at}: {found} for {expected}");
                let is_own = rows.contains(&(at / case.width));
                assert!(is_own || found.to_bits() == before[at].to_bits(), "{isa}: row of others");
            }
            assert_ne!(bits(&out), bits(&before));
        }
    }
}

#[test]
fn tiers_agree_and_a_row_is_the_same_alone_and_among_others_whatever_the_threads() {
    for case in cases() {
        let (count, rows) = (11, [0, 3, 4, 6, 7, 8, 9, 10]);
        let x = numbers(count * case.cols, 70);
        let before = numbers(count * case.width, 80);
        let mut expected = before.clone();
        case.run(&mut Cpu::new(1, Isa::Scalar), &x, &rows, &mut expected);
        for isa in Isa::all_available() {
            for threads in [1, 3] {
                let mut cpu = Cpu::new(threads, isa);
                let mut out = before.clone();
                case.run(&mut cpu, &x, &rows, &mut out);
                assert_eq!(bits(&out), bits(&expected), "{isa}, {threads} threads");
                for row in rows {
                    let x = &x[row * case.cols..(row + 1) * case.cols];
                    let mut out = before[row * case.width..(row + 1) * case.width].to_vec();
                    case.run(&mut cpu, x, &[0], &mut out);
                    let expected = &expected[row * case.width..(row + 1) * case.width];
                    assert_eq!(bits(&out), bits(expected), "{isa}: row {row} alone");
                }
            }
        }
    }
}

#[test]
fn halves_of_a_feed_forward_part_one_by_one_have_the_bits_of_those_together() {
    let (rows, cols, width) = (5, 64, 96);
    let x = numbers(rows * cols, 1);
    for isa in Isa::all_available() {
        let mut cpu = Cpu::new(2, isa);
        let mut activations = Activations::new(rows, cols).with_floats(true);
        activations.quantise(&mut cpu, &x);
        for kind in [BlockKind::F32, BlockKind::Q8_0] {
            let mut pack = |seed: usize| {
                let bytes = (0..kind.bytes_of(width * cols)).map(|i| (i * seed % 61) as u8);
                PackedMatrix::pack(&mut cpu.pool, kind, (width, cols), &bytes.collect::<Vec<_>>())
            };
            let (gates, ups) = (pack(31), pack(17));
            for activation in [Activation::Silu, Activation::GeluTanh] {
                let mut expected = vec![0.0; rows * width];
                matmul_gated(&mut cpu, &activations, (&gates, &ups, activation), &mut expected);
                let mut both = vec![0.0; 2 * rows * width];
                matmul(&mut cpu, &activations, &[&gates, &ups], &mut both);
                let mut found = vec![0.0; rows * width];
                gate(&mut cpu, activation, &both, (&mut found, width));
                assert_eq!(bits(&found), bits(&expected), "{isa} {kind:?} {activation:?}");

                matmul_activated(&mut cpu, &activations, (&ups, activation), &mut expected);
                matmul(&mut cpu, &activations, &[&ups], &mut found);
                activate(&mut cpu, activation, &mut found, width);
                assert_eq!(bits(&found), bits(&expected), "{isa} {kind:?} {activation:?}");
            }
        }
    }
}
