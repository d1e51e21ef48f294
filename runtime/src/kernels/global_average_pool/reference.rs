//! The plain meaning: `acc = sum (x - zx)`, requantized.

use super::{Input, Output};
use crate::arith::Requantize;

pub(super) fn run(multiplier: f32, x: Input, mut y: Output) {
    let [h, w, channels] = x.shape;
    let requantizer = y.requantizer(multiplier);
    for c in 0..channels {
        let mut acc = 0;
        for iy in 0..h {
            for ix in 0..w {
                acc += x.at(iy, ix, c) - x.zero_point;
            }
        }
        y.put(0, 0, c, requantizer.apply(acc));
    }
}
