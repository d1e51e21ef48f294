//! The same integers, tap by tap: the sums of neighbouring channels grow side by side. A mean over the whole image is one over
//! a window of its size.

use super::{Input, Output, Window};
use crate::{
    arith::{Requantize, Requantizer, widen},
    kernels::simd::{Kernel, Simd},
};
use core::ops::Range;

/// Channels at a time.
pub(crate) const CHUNK: usize = 64;

/// Some rows and channels of a pool to be run; `multiplier` gives the one for so many taps.
pub(crate) struct Mean<'a, M> {
    pub(crate) window: Window,
    pub(crate) multiplier: M,
    pub(crate) x: Input<'a>,
    /// The first row.
    pub(crate) first: usize,
    pub(crate) channels: Range<usize>,
    /// With the bytes of these rows and channels.
    pub(crate) y: Output<'a>,
}

impl<M: Fn(usize) -> f32> Kernel for Mean<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self, _: V) {
        let Self { window, x, y, channels, .. } = self;
        let ([h, w, all], [_, out_w, _]) = (x.shape, y.shape);
        for (i, pixel) in y.bytes.chunks_exact_mut(channels.len()).enumerate() {
            let place = [self.first + i / out_w, i % out_w];
            let (rows, columns) = (window.taps(0, place[0], h), window.taps(1, place[1], w));
            let taps = rows.len() * columns.len();
            let requantizer = Requantizer::new((self.multiplier)(taps), y.zero_point, y.clamp);
            let origin = [0, 1].map(|axis| place[axis] * window.stride[axis]);
            for (block, pixel) in pixel.chunks_mut(CHUNK).enumerate() {
                let mut sums = [-(taps as i32) * x.zero_point; CHUNK];
                for r in rows.clone() {
                    for s in columns.clone() {
                        let (iy, ix) = (origin[0] + r - window.padding[0], origin[1] + s - window.padding[1]);
                        let x_pixel = &x.bytes[(iy * w + ix) * all..][channels.clone()];
                        accumulate(&mut sums, &x_pixel[block * CHUNK..], x.signed);
                    }
                }
                for (y, sum) in pixel.iter_mut().zip(sums) {
                    *y = requantizer.apply(sum) as u8;
                }
            }
        }
    }
}

#[inline(always)]
fn accumulate(sums: &mut [i32; CHUNK], x: &[u8], signed: bool) {
    match (x.first_chunk::<CHUNK>(), signed) {
        // Chunks of constant length are what compilers turn into vectors.
        (Some(x), false) => sums.iter_mut().zip(x).for_each(|(sum, &byte)| *sum += widen(byte, false)),
        (Some(x), true) => sums.iter_mut().zip(x).for_each(|(sum, &byte)| *sum += widen(byte, true)),
        (None, signed) => sums.iter_mut().zip(x).for_each(|(sum, &byte)| *sum += widen(byte, signed)),
    }
}
