//! The plain meaning: per pixel the largest integer, the exponentials of the distances to it, their sum, and one division for
//! each channel.

use super::{Cell, Softmax};
use crate::arith::{rne_div, widen};

pub(super) fn run(softmax: &Softmax, x: &[Cell<u8>], y: &[Cell<u8>]) {
    for (x, y) in x.chunks_exact(softmax.channels).zip(y.chunks_exact(softmax.channels)) {
        let largest = x.iter().map(|cell| widen(cell.get(), softmax.signed)).max().unwrap_or(0);
        let mut sum = 0;
        for cell in x {
            sum += u64::from(power(softmax, largest, cell));
        }
        // At most 65535 * 2^30; shifted below 2^62.
        sum <<= softmax.shift;
        for (x, y) in x.iter().zip(y) {
            // At most 2^30 * 2^22, and the quotient at most 2^22.
            let share = rne_div(u64::from(power(softmax, largest, x)) * u64::from(softmax.multiplier), sum) as i32;
            y.set((share + softmax.zero_point).max(softmax.clamp[0]).min(softmax.clamp[1]) as u8);
        }
    }
}

/// The exponential of one integer.
#[inline(never)]
fn power(softmax: &Softmax, largest: i32, cell: &Cell<u8>) -> u32 {
    softmax.table.u32((largest - widen(cell.get(), softmax.signed)) as usize)
}
