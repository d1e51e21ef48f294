//! The same sums with the DSP instructions, a word of elements at a time.

use super::{Add, Cell, Sum, reference};
use crate::kernels::dsp::Dsp;

/// The reference does what is left: the end that makes no word, and layers that are no [`Sum`].
pub(super) fn run<D: Dsp>(add: &Add, [a, b]: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
    let sum = Sum::new(add);
    let words = sum.as_ref().map_or(0, |_| y.len() / 4 * 4);
    let ((a, a_rest), (b, b_rest), (y, y_rest)) = (a.split_at(words), b.split_at(words), y.split_at(words));
    if let Some(sum) = sum {
        D::sum(&sum, [a, b], y);
    }
    reference::run(add, [a_rest, b_rest], y_rest);
}
