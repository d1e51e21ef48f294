//! The plain meaning: per pixel the largest integer, the exponentials of the distances to it, their sum, and one division for
//! each channel.

use super::{Cell, Softmax};
use crate::arith::{rne_div, widen};

pub(super) fn run(softmax: &Softmax, x: &[Cell<u8>], y: &[Cell<u8>]) {
    let [low, high] = softmax.clamp;
    for (x, y) in x.chunks_exact(softmax.channels).zip(y.chunks_exact(softmax.channels)) {
        let integer = |cell: &Cell<u8>| widen(cell.get(), softmax.signed);
        let largest = x.iter().map(integer).max().unwrap_or(0);
        let power = |cell: &Cell<u8>| u64::from(softmax.table.u32((largest - integer(cell)) as usize));
        // At most 65535 * 2^30; with the shift below 2^62.
        let sum = x.iter().map(power).sum::<u64>() << softmax.shift;
        for (x, y) in x.iter().zip(y) {
            // At most 2^30 * 2^22, and the quotient at most 2^22.
            let share = rne_div(power(x) * u64::from(softmax.multiplier), sum) as i32;
            y.set((share + softmax.zero_point).clamp(low, high) as u8);
        }
    }
}
