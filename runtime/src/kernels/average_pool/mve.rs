//! The same means with the vector instructions of a Cortex-M55: vectors of channels, output pixel by output pixel.

use super::{Input, Output, Window};
use crate::{
    image::Table,
    kernels::{columns::Finish, mve::Mve, pixel::Pixel},
};

/// No window lies outside the image: the image check has seen that padding is smaller than the window.
pub(super) fn run<M: Mve>(window: &Window, multipliers: Table, x: Input, y: Output) {
    let [_, out_w, channels] = y.shape;
    let finish = Finish { zero_point: y.zero_point, clamp: y.clamp };
    for (i, out) in y.bytes.chunks_exact_mut(channels).enumerate() {
        if let Some(pixel) = Pixel::new(window, &x, [i / out_w, i % out_w], finish) {
            M::means(&pixel, multipliers.f32(pixel.taps[0] * pixel.taps[1] - 1), out);
        }
    }
}
