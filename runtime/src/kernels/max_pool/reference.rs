//! The plain meaning.

use super::{Input, Output, Window};

pub(super) fn run(window: &Window, x: Input, mut y: Output) {
    let [h, w, _] = x.shape;
    let [out_h, out_w, channels] = y.shape;
    for oy in 0..out_h {
        for ox in 0..out_w {
            for c in 0..channels {
                let mut largest = i32::MIN;
                for r in window.taps(0, oy, h) {
                    for s in window.taps(1, ox, w) {
                        let (Some(iy), Some(ix)) = (window.position(0, oy, r, h), window.position(1, ox, s, w)) else {
                            continue;
                        };
                        largest = largest.max(x.at(iy, ix, c));
                    }
                }
                let [low, high] = y.clamp;
                y.put(oy, ox, c, largest.clamp(low, high));
            }
        }
    }
}
