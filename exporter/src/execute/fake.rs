//! `dequantize(quantize(x))` of a whole activation, fast. Enters: floats and an encoding. Leaves: the values that the
//! encoding's integers stand for, equal to [`Encoding::fake`] bit for bit (a test says so).

use crate::network::Encoding;

/// A per-tensor encoding, in the form that vectorizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fake {
    scale: f32,
    /// `qmin - zero point`, `qmax - zero point`.
    low: f32,
    high: f32,
}

impl Fake {
    pub(super) fn new(encoding: &Encoding) -> Self {
        let (scale, zero_point) = encoding.channel(0);
        Self { scale, low: (encoding.qmin() - zero_point) as f32, high: (encoding.qmax() - zero_point) as f32 }
    }

    pub(super) fn apply(self, x: f32) -> f32 {
        // Adding 1.5 * 2^23 leaves no bit behind the point and rounds ties to even. The limits are integers, so that
        // clamping may come first, which keeps the sum in range.
        const ROUND: f32 = 12_582_912.0;
        ((x / self.scale).clamp(self.low, self.high) + ROUND - ROUND) * self.scale
    }

    pub(super) fn apply_all(self, values: &mut [f32]) {
        values.iter_mut().for_each(|x| *x = self.apply(*x));
    }
}
