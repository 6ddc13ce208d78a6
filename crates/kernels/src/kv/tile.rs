//! A tile: one head's keys and values of 32 tokens, as attention reads them.
//!
//! For keys tokens are lanes, for values dimensions are. As many numbers as one instruction adds up
//! within a lane stand together: dimensions of a key, tokens of values.
//!
//! | type | scales | keys | values |
//! |---|---|---|---|
//! | bf16 | – | `[head_dim / 2][32 tokens][2]` | `[16 token pairs][head_dim][2]` |
//! | f16, f32 | – | `[head_dim][32 tokens]` | `[32 tokens][head_dim]` |
//! | int8 | f32, of 32 keys, of 32 values | `[head_dim / 4][32 tokens][4]` | `[8 token quads][head_dim][4]` |
//!
//! Slots that no token was written to hold anything.
//!
//! A few dimensions of keys are much larger than the rest, which one scale would make coarse. So int8
//! keys are spread first ([`spread`]), and queries with them, which leaves their products as they are.
//! Measured on the default model (`cargo bench -p model --bench divergence`, with the texts and the
//! activations of that time), mean divergence from float32 in nats: 0.00186 as they come, 0.00090
//! spread, 0.00066 with keys and values in bf16. Spreading values too changes nothing.

use half::{bf16, f16};

use super::{KvType, TILE_TOKENS};
use crate::codes::{CODE8_MAX, Scale, spread};

/// Bytes of the scales of an int8 tile.
pub(super) const SCALES_BYTES: usize = 2 * TILE_TOKENS * size_of::<f32>();

/// An 8-bit code, plus 128.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Code(u8);

/// A number as it stands in a tile.
pub(crate) trait Stored: Copy {
    /// How many stand together.
    const GROUP: usize;
    /// Bytes of the tile before the keys.
    const KEYS_AT: usize = 0;
    /// What sums are made in.
    type Number;

    fn number(self) -> Self::Number;

    /// The keys of a tile.
    #[inline(always)]
    fn keys(tile: *const u8) -> *const Self {
        tile.wrapping_add(Self::KEYS_AT).cast()
    }

    /// The values of a tile.
    #[inline(always)]
    fn values(tile: *const u8, head_dim: usize) -> *const Self {
        Self::keys(tile).wrapping_add(TILE_TOKENS * head_dim)
    }
}

impl Stored for bf16 {
    const GROUP: usize = 2;
    type Number = f32;

    #[inline(always)]
    fn number(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Stored for f16 {
    const GROUP: usize = 1;
    type Number = f32;

    /// As `half` gives it, but without a branch or a look at the processor.
    #[inline(always)]
    fn number(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let (sign, magnitude) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
        // Moves the exponent's origin from 15 to 127; exact, for subnormal numbers too.
        let finite = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
        let is_finite = magnitude < 0x7c00 << 13;
        let magnitude = if is_finite { finite.to_bits() } else { magnitude | 0x7f80_0000 };
        f32::from_bits(sign | magnitude)
    }
}

impl Stored for f32 {
    const GROUP: usize = 1;
    type Number = f32;

    #[inline(always)]
    fn number(self) -> f32 {
        self
    }
}

impl Stored for Code {
    const GROUP: usize = 4;
    const KEYS_AT: usize = SCALES_BYTES;
    type Number = i32;

    #[inline(always)]
    fn number(self) -> i32 {
        i32::from(self.0) - 128
    }
}

/// The scales of the keys and of the values of an int8 tile.
#[inline(always)]
pub(crate) fn scales(tile: *const u8) -> [*const [f32; TILE_TOKENS]; 2] {
    let keys = tile.cast::<[f32; TILE_TOKENS]>();
    [keys, keys.wrapping_add(1)]
}

/// Rounds as `half::bf16` does, but without a branch, so that it is compiled to vectors.
#[inline(always)]
pub(crate) fn round_bf16(value: f32) -> bf16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    bf16::from_bits((if value.is_nan() { bits >> 16 | 0x40 } else { rounded }) as u16)
}

/// Rounds as `half::f16` does, without a branch, but keeps finite numbers finite: an infinite value
/// would reach queries that may not see it, as zero times infinity.
#[inline(always)]
fn round_f16(value: f32) -> f16 {
    const MAX: u32 = 0x477f_e000;
    const INFINITY: u32 = 0x7f80_0000;
    let bits = value.to_bits();
    let (sign, magnitude) = (bits >> 16 & 0x8000, bits & 0x7fff_ffff);
    let clamped = if magnitude > MAX { MAX } else { magnitude };
    let rounded = clamped + 0xfff + (clamped >> 13 & 1);
    let normal = rounded.wrapping_sub(112 << 23) >> 13;
    // The sum has the subnormal number's last place as its own.
    let subnormal = (f32::from_bits(clamped) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    let broken = if magnitude > INFINITY { 0x7e00 } else { 0x7c00 };
    f16::from_bits((sign | if magnitude < INFINITY { finite } else { broken }) as u16)
}

/// Turns a query as keys of this type are turned when they are stored.
#[inline(always)]
pub(crate) fn turn_query(kind: KvType, query: &mut [f32]) {
    match kind {
        KvType::Bf16 | KvType::F16 | KvType::F32 => {}
        KvType::Int8 => spread(query),
    }
}

/// Writes one token's key and value into a tile; the key may be overwritten.
///
/// # Safety
/// `tile` points to a tile of this type and of `key.len()` dimensions, `slot` is below
/// [`TILE_TOKENS`], `value` is as long as `key`, and no other thread uses this slot.
#[inline(always)]
pub(crate) unsafe fn store(
    kind: KvType,
    tile: *mut u8,
    slot: usize,
    (key, value): (&mut [f32], &[f32]),
) {
    // SAFETY: passed on from the contract.
    unsafe {
        match kind {
            KvType::Bf16 => store_numbers(tile, slot, (key, value), (round_bf16, round_bf16)),
            KvType::F16 => store_numbers(tile, slot, (key, value), (round_f16, round_f16)),
            KvType::F32 => store_numbers(tile, slot, (key, value), (|x| x, |x| x)),
            KvType::Int8 => {
                spread(key);
                store_codes(tile, slot, (key, value));
            }
        }
    }
}

/// # Safety
/// As for [`store`].
#[inline(always)]
unsafe fn store_codes(tile: *mut u8, slot: usize, (key, value): (&[f32], &[f32])) {
    let [key_scale, value_scale] = [key, value].map(|values| Scale::of(values, CODE8_MAX));
    let code = |scale: Scale| move |x| Code((scale.code(x) + 128) as u8);
    // SAFETY: the scales stand before the keys; the rest is passed on from the contract.
    unsafe {
        let scales = tile.cast::<f32>();
        *scales.add(slot) = key_scale.step;
        *scales.add(TILE_TOKENS + slot) = value_scale.step;
        store_numbers(tile, slot, (key, value), (code(key_scale), code(value_scale)));
    }
}

/// # Safety
/// As for [`store`].
#[inline(always)]
unsafe fn store_numbers<T: Stored>(
    tile: *mut u8,
    slot: usize,
    (key, value): (&[f32], &[f32]),
    (round_key, round_value): (impl Fn(f32) -> T, impl Fn(f32) -> T),
) {
    let (keys, values) = (T::keys(tile).cast_mut(), T::values(tile, key.len()).cast_mut());
    for (dim, &number) in key.iter().enumerate() {
        let at = (dim / T::GROUP * TILE_TOKENS + slot) * T::GROUP + dim % T::GROUP;
        // SAFETY: by the contract the tile holds `TILE_TOKENS * key.len()` keys.
        unsafe { *keys.add(at) = round_key(number) };
    }
    for (dim, &number) in value.iter().enumerate() {
        let at = (slot / T::GROUP * value.len() + dim) * T::GROUP + slot % T::GROUP;
        // SAFETY: as above, for values.
        unsafe { *values.add(at) = round_value(number) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> impl Iterator<Item = f32> {
        let special =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-45, 6e-8, 65_504.0];
        let many = (0..200_000_u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b1)));
        let of_halves = (0..65_536_u32).map(|i| f32::from_bits(0x3300_0000 + (i << 12) - i % 3));
        special.into_iter().chain(many).chain(of_halves)
    }

    #[test]
    fn bf16_numbers_are_rounded_as_half_rounds() {
        for value in numbers().chain([f32::MAX]) {
            let expected = bf16::from_f32(value);
            assert_eq!(round_bf16(value).to_bits(), expected.to_bits(), "{value}");
        }
    }

    #[test]
    fn f16_numbers_are_rounded_as_half_rounds_but_stay_finite() {
        for value in numbers() {
            let got = round_f16(value);
            if value.is_nan() {
                assert!(got.is_nan());
            } else if value.abs() > 65_504.0 && value.is_finite() {
                assert_eq!(got.to_f32(), 65_504_f32.copysign(value));
            } else {
                assert_eq!(got.to_bits(), f16::from_f32(value).to_bits(), "{value}");
            }
        }
    }

    #[test]
    fn f16_numbers_are_read_as_half_reads() {
        for bits in 0..=u16::MAX {
            let (got, expected) = (f16::from_bits(bits).number(), f16::from_bits(bits).to_f32());
            assert!(got == expected || got.is_nan() && expected.is_nan(), "{bits:x}: {got}");
        }
    }
}
