//! The same integers for a depthwise convolution, faster: a block of channels at a time, since neighbouring channels lie
//! side by side in the image and in the weights.

use super::{Conv2d, Input, Output};
use crate::{
    arith::Requantize,
    kernels::dot::{Centre, weight},
};

/// Channels in a block; whole bytes of weights of every width.
const BLOCK: usize = 16;

pub(super) fn run(conv: &Conv2d, x: Input, y: Output) {
    match (conv.weights.bits, conv.weights.signed) {
        (8, false) => blocks::<8, false>(conv, x, y),
        (8, true) => blocks::<8, true>(conv, x, y),
        (4, false) => blocks::<4, false>(conv, x, y),
        (4, true) => blocks::<4, true>(conv, x, y),
        (_, false) => blocks::<2, false>(conv, x, y),
        (_, true) => blocks::<2, true>(conv, x, y),
    }
}

fn blocks<const BITS: u32, const SIGNED: bool>(conv: &Conv2d, x: Input, mut y: Output) {
    let [h, w, channels] = x.shape;
    let [out_h, out_w, _] = y.shape;
    let (window, weights) = (&conv.window, &conv.weights);
    let centre = Centre::new(x.signed, x.zero_point);
    let (row_bytes, per_byte) = (weights.row_bytes(channels), 8 / BITS as usize);
    for first in (0..channels).step_by(BLOCK) {
        let count = BLOCK.min(channels - first);
        let mut zero_points = [0; BLOCK];
        let mut bias = [0; BLOCK];
        for c in 0..count {
            (zero_points[c], bias[c]) = (weights.zero_point(first + c), weights.bias.i32(first + c));
        }
        for oy in 0..out_h {
            let rows = window.taps(0, oy, h);
            for ox in 0..out_w {
                let mut acc = bias;
                for r in rows.clone() {
                    let iy = oy * window.stride[0] + r * window.dilation[0] - window.padding[0];
                    for s in window.taps(1, ox, w) {
                        let ix = ox * window.stride[1] + s * window.dilation[1] - window.padding[1];
                        let values = &x.bytes[(iy * w + ix) * channels + first..][..count];
                        let row = &weights.data[(r * window.kernel[1] + s) * row_bytes + first / per_byte..];
                        let row = &row[..count.div_ceil(per_byte)];
                        let mut add = |c: usize| {
                            let weight = weight::<BITS, SIGNED>(row[c / per_byte], c % per_byte) - zero_points[c];
                            acc[c] = acc[c].wrapping_add(centre.value(values[c]) * weight);
                        };
                        // A block of constant length is what compilers turn into vectors.
                        if count == BLOCK { (0..BLOCK).for_each(&mut add) } else { (0..count).for_each(&mut add) }
                    }
                }
                for (c, &acc) in acc[..count].iter().enumerate() {
                    let requantizer = y.requantizer(weights.multipliers.f32(first + c));
                    y.put(oy, ox, first + c, requantizer.apply(acc));
                }
            }
        }
    }
}
