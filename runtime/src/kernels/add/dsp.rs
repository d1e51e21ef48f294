//! The same sums with the DSP instructions: zero points and the half of rounding folded into one constant.

use super::{Add, Cell, reference};
use crate::kernels::{
    columns::Finish,
    dsp::{Dsp, Sum},
};

/// The reference does what is left: the end that makes no word, and layers without [`constants`].
pub(super) fn run<D: Dsp>(add: &Add, [a, b]: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
    let sum = constants(add);
    let words = sum.as_ref().map_or(0, |_| y.len() / 4 * 4);
    let ((a, a_rest), (b, b_rest), (y, y_rest)) = (a.split_at(words), b.split_at(words), y.split_at(words));
    if let Some(sum) = sum {
        D::sum(&sum, [a, b], y);
    }
    reference::run(add, [a_rest, b_rest], y_rest);
}

/// None for layers whose sums could leave i32 once a half is added, or that are not shifted.
pub(super) fn constants(add: &Add) -> Option<Sum> {
    let rescale = &add.rescale;
    let half = 1i32 << rescale.shift >> 1;
    // Differences to the zero points are at most 255, and multipliers at most 2^22.
    let most = rescale.multipliers.iter().map(|multiplier| 255 * multiplier).fold(half, i32::saturating_add);
    let constant = |i: usize| rescale.input_zero_points[i].wrapping_mul(rescale.multipliers[i]);
    (rescale.shift > 0 && most < i32::MAX).then(|| Sum {
        signed: add.signed,
        multipliers: rescale.multipliers,
        offset: half.wrapping_sub(constant(0)).wrapping_sub(constant(1)),
        shift: rescale.shift,
        finish: Finish { zero_point: rescale.zero_point, clamp: rescale.clamp },
    })
}
