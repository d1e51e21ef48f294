//! Windows of pools on a Cortex-M with vectors, an output pixel at a time. Enters: an input, a window. Leaves: where the taps inside
//! the image lie. Refuses nothing.

use super::{Input, Window, columns::Finish};

/// The taps of an output pixel.
#[derive(Clone, Debug)]
pub(in crate::kernels) struct Pixel<'a> {
    /// From the first tap on.
    pub(in crate::kernels) x: &'a [u8],
    /// Two's complement?
    pub(in crate::kernels) signed: bool,
    /// `zx`.
    pub(in crate::kernels) zero_point: i32,
    /// Taps inside the image: down, right; at least one of each.
    pub(in crate::kernels) taps: [usize; 2],
    /// Bytes from tap to tap: down, right.
    pub(in crate::kernels) steps: [usize; 2],
    /// To stored integers.
    pub(in crate::kernels) finish: Finish,
}

impl<'a> Pixel<'a> {
    /// The window at `[oy, ox]`; none when all of it lies outside.
    pub(in crate::kernels) fn new(
        window: &Window,
        x: &Input<'a>,
        [oy, ox]: [usize; 2],
        finish: Finish,
    ) -> Option<Self> {
        let [h, w, channels] = x.shape;
        let (rows, taps) = (window.taps(0, oy, h), window.taps(1, ox, w));
        if rows.is_empty() || taps.is_empty() {
            return None;
        }
        let iy = oy * window.stride[0] + rows.start * window.dilation[0] - window.padding[0];
        let ix = ox * window.stride[1] + taps.start * window.dilation[1] - window.padding[1];
        Some(Self {
            x: &x.bytes[(iy * w + ix) * channels..],
            signed: x.signed,
            zero_point: x.zero_point,
            taps: [rows.len(), taps.len()],
            steps: [window.dilation[0] * w * channels, window.dilation[1] * channels],
            finish,
        })
    }

    /// Bytes of the input from the first tap to behind the last one, of so many channels.
    #[cfg(intact_mve)]
    pub(in crate::kernels) fn reach(&self, channels: usize) -> usize {
        (self.taps[0] - 1) * self.steps[0] + (self.taps[1] - 1) * self.steps[1] + channels
    }

    /// The bytes of one channel under the window.
    #[cfg(any(test, feature = "testing"))]
    pub(in crate::kernels) fn values(&self, channel: usize) -> impl Iterator<Item = i32> {
        let [down, right] = self.steps;
        let places = (0..self.taps[0]).flat_map(move |r| (0..self.taps[1]).map(move |s| r * down + s * right));
        places.map(move |at| crate::arith::widen(self.x[at + channel], self.signed))
    }
}
