//! The same integers, tap by tap: neighbouring channels are compared side by side.

use super::{Input, Output, Window};
use crate::kernels::simd::{Kernel, Simd};

/// Some rows of a pool to be run.
pub(crate) struct Largest<'a> {
    pub(crate) window: Window,
    pub(crate) x: Input<'a>,
    /// The first row.
    pub(crate) first: usize,
    /// With the bytes of these rows.
    pub(crate) y: Output<'a>,
}

impl Kernel for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self, _: V) {
        // A signed byte with its top bit flipped is an unsigned one, in the same order.
        let flip = if self.x.signed { 0x80 } else { 0 };
        let [low, high] = self.y.clamp.map(|end| end as u8 ^ flip);
        let ([h, w, channels], [_, out_w, _], window) = (self.x.shape, self.y.shape, self.window);
        for (i, y) in self.y.bytes.chunks_exact_mut(channels).enumerate() {
            let (oy, ox) = (self.first + i / out_w, i % out_w);
            y.fill(0);
            for r in window.taps(0, oy, h) {
                for s in window.taps(1, ox, w) {
                    let (Some(iy), Some(ix)) = (window.position(0, oy, r, h), window.position(1, ox, s, w)) else {
                        continue;
                    };
                    let x = &self.x.bytes[(iy * w + ix) * channels..][..channels];
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = (x ^ flip).max(*y));
                }
            }
            y.iter_mut().for_each(|y| *y = (*y).max(low).min(high) ^ flip);
        }
    }
}
