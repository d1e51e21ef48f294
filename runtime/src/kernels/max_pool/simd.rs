//! The same integers, tap by tap: neighbouring channels are compared side by side.

use super::{Input, Output, Window};
use crate::kernels::simd::{Kernel, Simd};

/// Channels at a time.
const CHUNK: usize = 64;

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
        for (i, pixel) in self.y.bytes.chunks_exact_mut(channels).enumerate() {
            let (oy, ox) = (self.first + i / out_w, i % out_w);
            let (rows, columns) = (window.taps(0, oy, h), window.taps(1, ox, w));
            for (block, pixel) in pixel.chunks_mut(CHUNK).enumerate() {
                let mut largest = [0; CHUNK];
                for iy in rows.clone().filter_map(|r| window.position(0, oy, r, h)) {
                    for ix in columns.clone().filter_map(|s| window.position(1, ox, s, w)) {
                        let x = &self.x.bytes[(iy * w + ix) * channels..][block * CHUNK..channels];
                        let larger = |(y, x): (&mut u8, &u8)| *y = (x ^ flip).max(*y);
                        match x.first_chunk::<CHUNK>() {
                            // Of constant length, it stays in a register.
                            Some(x) => largest.iter_mut().zip(x).for_each(larger),
                            None => largest.iter_mut().zip(x).for_each(larger),
                        }
                    }
                }
                pixel.iter_mut().zip(largest).for_each(|(y, largest)| *y = largest.max(low).min(high) ^ flip);
            }
        }
    }
}
