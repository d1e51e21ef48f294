//! The plain meaning: `acc = bias[k] + sum (x - zx) * (w - zw[k])` over the taps inside the image.

use super::{Conv2d, Input, Output};
use crate::arith::Requantize;

pub(super) fn run(conv: &Conv2d, x: Input, mut y: Output) {
    let [h, w, channels] = x.shape;
    let [out_h, out_w, out_channels] = y.shape;
    let [kernel_h, kernel_w] = conv.window.kernel;
    let (in_group, out_group) = (channels / conv.groups, out_channels / conv.groups);
    for k in 0..out_channels {
        let zero_point = conv.weights.zero_point(k);
        let requantizer = y.requantizer(conv.weights.multipliers.f32(k));
        for oy in 0..out_h {
            for ox in 0..out_w {
                let mut acc = conv.weights.bias.i32(k);
                for r in 0..kernel_h {
                    for s in 0..kernel_w {
                        let Some(iy) = conv.window.position(0, oy, r, h) else { continue };
                        let Some(ix) = conv.window.position(1, ox, s, w) else { continue };
                        let tap = r * kernel_w + s;
                        for c in 0..in_group {
                            let weight = if conv.depthwise {
                                conv.weights.get(tap, channels, k)
                            } else {
                                conv.weights.get(k, kernel_h * kernel_w * in_group, tap * in_group + c)
                            };
                            let value = x.at(iy, ix, k / out_group * in_group + c) - x.zero_point;
                            acc = acc.wrapping_add(value * (weight - zero_point));
                        }
                    }
                }
                y.put(oy, ox, k, requantizer.apply(acc));
            }
        }
    }
}
