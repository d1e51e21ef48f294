//! The same integers for a depthwise convolution, on cores without DSP instructions: channel by channel of an output pixel, tap by
//! tap, with 8-bit weights read where they lie.

use super::{Conv2d, Input, Output, reference};
use crate::arith::{Requantize, widen};

/// Needs 8-bit weights; for others the reference runs.
pub(super) fn run(conv: &Conv2d, x: Input, y: Output) {
    let weights = &conv.weights;
    if weights.bits != 8 {
        return reference::run(conv, x, y);
    }
    let ([h, w, channels], window) = (x.shape, &conv.window);
    let [out_h, out_w, _] = y.shape;
    for k in 0..channels {
        let (zero_point, requantizer) = (weights.zero_point(k), y.requantizer(weights.multipliers.f32(k)));
        for oy in 0..out_h {
            let rows = window.taps(0, oy, h);
            for ox in 0..out_w {
                let taps = window.taps(1, ox, w);
                let mut acc = weights.bias.i32(k);
                for r in rows.clone() {
                    if taps.is_empty() {
                        break;
                    }
                    let iy = oy * window.stride[0] + r * window.dilation[0] - window.padding[0];
                    let ix = ox * window.stride[1] + taps.start * window.dilation[1] - window.padding[1];
                    let values = x.bytes[(iy * w + ix) * channels + k..].iter().step_by(window.dilation[1] * channels);
                    let row =
                        weights.data[(r * window.kernel[1] + taps.start) * channels + k..].iter().step_by(channels);
                    for (&value, &weight) in values.zip(row).take(taps.len()) {
                        let weight = widen(weight, weights.signed) - zero_point;
                        acc = acc.wrapping_add((widen(value, x.signed) - x.zero_point) * weight);
                    }
                }
                y.bytes[(oy * out_w + ox) * channels + k] = requantizer.apply(acc) as u8;
            }
        }
    }
}
