//! What cores add with: zero points and the half of rounding folded into one constant.

use super::Add;
use crate::kernels::columns::Finish;

/// An Add whose sums, roundings included, stay within i32: `y = clamp(((a * A + b * B + offset) >> shift) - odd_tie + zy)`.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Sum {
    /// Whether each input is two's complement.
    pub(in crate::kernels) signed: [bool; 2],
    /// `A`, `B`.
    pub(in crate::kernels) multipliers: [i32; 2],
    /// `- za * A - zb * B`, and a half.
    pub(in crate::kernels) offset: i32,
    /// At least 1.
    pub(in crate::kernels) shift: u32,
    /// To stored integers.
    pub(in crate::kernels) finish: Finish,
}

impl Sum {
    /// None for layers whose sums could leave i32 once a half is added, or that are not shifted.
    pub(super) fn new(add: &Add) -> Option<Self> {
        let rescale = &add.rescale;
        let half = 1i32 << rescale.shift >> 1;
        // Differences to the zero points are at most 255, and multipliers at most 2^22.
        let most = rescale.multipliers.iter().map(|multiplier| 255 * multiplier).fold(half, i32::saturating_add);
        let constant = |i: usize| rescale.input_zero_points[i].wrapping_mul(rescale.multipliers[i]);
        (rescale.shift > 0 && most < i32::MAX).then(|| Self {
            signed: add.signed,
            multipliers: rescale.multipliers,
            offset: half.wrapping_sub(constant(0)).wrapping_sub(constant(1)),
            shift: rescale.shift,
            finish: Finish { zero_point: rescale.zero_point, clamp: rescale.clamp },
        })
    }
}
