//! Where a block of packed weights stands.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::kinds::kind_of;
use crate::blocks::BLOCK;
use crate::pack::{
    LINE, PANEL_ROWS, PackedMatrix, PanelSizes, code_bytes, factors_per_block, scales_per_block,
};

/// The place of a block of 32 columns in a panel, and how far it is to the same block of the next.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    pub(super) codes: *const u8,
    scales: *const u16,
    factors: *const i8,
    pub(super) panel: PanelSizes,
}

impl Weights {
    /// The first block of `panel`; the weight is of the kind.
    #[inline(always)]
    pub(super) fn at<const KIND: u8>(weight: &PackedMatrix, panel: usize) -> Weights {
        let sizes = PanelSizes::of(kind_of(KIND), weight.cols());
        Weights {
            codes: weight.codes().as_ptr().wrapping_add(panel * sizes.codes),
            scales: weight.scales().as_ptr().wrapping_add(panel * sizes.scales),
            factors: weight.factors().as_ptr().wrapping_add(panel * sizes.factors),
            panel: sizes,
        }
    }

    /// So many blocks of 32 columns behind the first one.
    #[inline(always)]
    pub(super) fn block<const KIND: u8>(self, block: usize) -> Weights {
        let kind = kind_of(KIND);
        let of_kind = block / (kind.block_len() / BLOCK);
        Weights {
            codes: self.codes.wrapping_add(block * code_bytes(kind)),
            scales: self.scales.wrapping_add(of_kind * scales_per_block(kind)),
            factors: self.factors.wrapping_add(block * factors_per_block(kind)),
            ..self
        }
    }

    /// Scales of panel `p`, or, behind them, its minimums.
    #[inline(always)]
    pub(super) fn scales(&self, p: usize, behind: usize) -> *const u16 {
        self.scales.wrapping_add(p * self.panel.scales + behind * PANEL_ROWS)
    }

    /// Factors of scales in a part of panel `p`, or, behind those of all parts, of minimums.
    #[inline(always)]
    pub(super) fn factors(&self, p: usize, part: usize) -> *const i8 {
        self.factors.wrapping_add(p * self.panel.factors + part * PANEL_ROWS)
    }

    /// Asks for the block in panel `p` from here; there need be none.
    #[inline(always)]
    pub(super) fn prefetch<const KIND: u8>(&self, p: usize) {
        let kind = kind_of(KIND);
        let codes = self.codes.wrapping_add(p * self.panel.codes);
        // SAFETY: asking for what does not exist has no effect.
        unsafe {
            for line in 0..code_bytes(kind) / LINE {
                _mm_prefetch::<_MM_HINT_T1>(codes.wrapping_add(LINE * line).cast());
            }
            _mm_prefetch::<_MM_HINT_T1>(self.scales(p, 0).cast());
            if kind.has_factors() {
                _mm_prefetch::<_MM_HINT_T1>(self.factors(p, 0).cast());
            }
        }
    }
}
