//! The same integers, faster: `acc = bias[k] + sum (x - zx) * w - zw[k] * sum (x - zx)`, several `k` at a time.

use super::{Input, Output};
use crate::{
    arith::Requantize,
    image::Weights,
    kernels::dot::{self, Centre},
};

pub(super) fn run(weights: &Weights, x: Input, y: Output) {
    let centre = Centre::new(x.signed, x.zero_point);
    let total: i32 = x.bytes.iter().map(|&byte| centre.value(byte)).fold(0, i32::wrapping_add);
    dot::for_each_row([x.bytes], centre, weights, 0..y.shape[2], |_, k, sum| {
        let acc = weights.bias.i32(k).wrapping_add(sum).wrapping_sub(weights.zero_point(k).wrapping_mul(total));
        y.bytes[k] = y.requantizer(weights.multipliers.f32(k)).apply(acc) as u8;
    });
}
