//! The plain meaning: `acc = bias[k] + sum (x - zx) * (w - zw[k])`.

use super::{Input, Output};
use crate::{
    arith::{Requantize, widen},
    image::Weights,
};

pub(super) fn run(weights: &Weights, x: Input, mut y: Output) {
    for k in 0..y.shape[2] {
        let mut acc = weights.bias.i32(k);
        for (i, &byte) in x.bytes.iter().enumerate() {
            let weight = weights.get(k, x.bytes.len(), i) - weights.zero_point(k);
            acc = acc.wrapping_add((widen(byte, x.signed) - x.zero_point) * weight);
        }
        let requantizer = y.requantizer(weights.multipliers.f32(k));
        y.put(0, 0, k, requantizer.apply(acc));
    }
}
