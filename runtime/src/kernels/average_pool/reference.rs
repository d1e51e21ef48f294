//! The plain meaning: `acc = sum (x - zx)` over the `n` taps inside the image, requantized with `M[n]`.

use super::{Input, Output, Window};
use crate::{arith::Requantize, image::Table};

pub(super) fn run(window: &Window, multipliers: Table, x: Input, mut y: Output) {
    let [h, w, _] = x.shape;
    let [out_h, out_w, channels] = y.shape;
    for oy in 0..out_h {
        for ox in 0..out_w {
            let (rows, columns) = (window.taps(0, oy, h), window.taps(1, ox, w));
            let requantizer = y.requantizer(multipliers.f32(rows.len() * columns.len() - 1));
            for c in 0..channels {
                let mut acc = 0;
                for r in rows.clone() {
                    for s in columns.clone() {
                        let (Some(iy), Some(ix)) = (window.position(0, oy, r, h), window.position(1, ox, s, w)) else {
                            continue;
                        };
                        acc += x.at(iy, ix, c) - x.zero_point;
                    }
                }
                y.put(oy, ox, c, requantizer.apply(acc));
            }
        }
    }
}
