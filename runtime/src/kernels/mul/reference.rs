//! The plain meaning: `acc = (a - za) * (b - zb)`, requantized, element by element.

use super::{Cell, Mul};
use crate::arith::{Requantize, widen};

pub(super) fn run(mul: &Mul, [a, b]: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
    let centred = |cell: &Cell<u8>, i: usize| widen(cell.get(), mul.signed[i]) - mul.zero_points[i];
    for (a, y) in a.chunks_exact(b.len()).zip(y.chunks_exact(b.len())) {
        for ((a, b), y) in a.iter().zip(b).zip(y) {
            y.set(mul.requantizer.apply(centred(a, 0) * centred(b, 1)) as u8);
        }
    }
}
