//! The same means with the vector instructions of a Cortex-M55: all of the image is one window.

use super::{Input, Output};
use crate::kernels::{columns::Finish, mve::Mve, pixel::Pixel};

pub(super) fn run<M: Mve>(multiplier: f32, x: Input, y: Output) {
    let [h, w, channels] = x.shape;
    let finish = Finish { zero_point: y.zero_point, clamp: y.clamp };
    let steps = [w * channels, channels];
    let pixel = Pixel { x: x.bytes, signed: x.signed, zero_point: x.zero_point, taps: [h, w], steps, finish };
    M::means(&pixel, multiplier, y.bytes);
}
