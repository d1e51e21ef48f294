//! The same integers on a Cortex-M: a row of weights at a time, packed ones unpacked a few at a time.

use super::{Input, Output};
use crate::{arith::Requantize, image::Weights, kernels::factors::Factors};

/// Packed weights that are unpacked at once.
const CHUNK: usize = 64;

pub(super) fn run(weights: &Weights, x: Input, mut y: Output, dot: impl Fn(&Factors) -> i32) {
    let len = x.bytes.len();
    let chunk = if weights.bits == 8 { len } else { CHUNK };
    let mut unpacked = [0; CHUNK];
    for k in 0..y.shape[2] {
        let mut acc = weights.bias.i32(k);
        for (i, x_bytes) in x.bytes.chunks(chunk).enumerate() {
            let row = if weights.bits == 8 {
                &weights.data[k * len..(k + 1) * len]
            } else {
                for (j, place) in unpacked[..x_bytes.len()].iter_mut().enumerate() {
                    *place = weights.get(k, len, i * CHUNK + j) as u8;
                }
                &unpacked[..x_bytes.len()]
            };
            acc = acc.wrapping_add(dot(&Factors {
                bytes: [x_bytes, row],
                signed: [x.signed, weights.signed],
                zero_points: [x.zero_point, weights.zero_point(k)],
            }));
        }
        let requantizer = y.requantizer(weights.multipliers.f32(k));
        y.put(0, 0, k, requantizer.apply(acc));
    }
}
