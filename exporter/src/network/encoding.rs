//! How a tensor is stored in integers. Enters: a value range and a bit width (Eq. 1-3 of the paper). Leaves: scale, zero
//! point and the two mappings. Refuses: ranges that are not finite, widths other than 2 to 8 bits.
//!
//! `q = sat(RNE(x / scale) + zero_point)` and `x = (q - zero_point) * scale`, as ONNX QuantizeLinear and
//! DequantizeLinear (opset 19), in f32 with true division.

use serde::{Deserialize, Serialize};

/// Bits, signedness, scales and zero points of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    /// 2 to 8.
    pub bits: u8,
    /// Two's complement if true: `-2^(bits-1) ..= 2^(bits-1)-1`; otherwise `0 ..= 2^bits-1`.
    pub signed: bool,
    /// Step size, positive and finite: one for the tensor, or one for each output channel `K` of a weight.
    pub scale: Vec<f32>,
    /// The integer that stands for 0.0; as many as there are scales, each within [`Self::qmin`]`..=`[`Self::qmax`].
    pub zero_point: Vec<i32>,
}

impl Encoding {
    /// One scale and zero point for the whole tensor.
    pub fn per_tensor(bits: u8, signed: bool, scale: f32, zero_point: i32) -> Self {
        Self { bits, signed, scale: vec![scale], zero_point: vec![zero_point] }
    }

    /// The asymmetric encoding of the range `min..=max` (Eq. 2 and 3 of the paper), widened so that it holds 0.
    ///
    /// `scale = (max - min) / (2^bits - 1)`, `zero_point = RNE(-min / scale) + qmin`. An empty range (`min = max = 0`)
    /// gives scale 1, so that every value, being 0, is exact.
    ///
    /// # Panics
    /// If `min` or `max` is not finite or `bits` is outside `2..=8`: ranges are checked where they are measured.
    pub fn asymmetric(bits: u8, signed: bool, min: f32, max: f32) -> Self {
        assert!(min.is_finite() && max.is_finite(), "range {min}..{max} is not finite");
        assert!((2..=8).contains(&bits), "{bits} bits");
        let (min, max) = (min.min(0.0), max.max(0.0));
        let levels = f64::from((1u32 << bits) - 1);
        let scale = ((f64::from(max) - f64::from(min)) / levels) as f32;
        let mut encoding = Self::per_tensor(bits, signed, if scale > 0.0 { scale } else { 1.0 }, 0);
        let zero_point = (f64::from(-min) / f64::from(encoding.scale[0])).round_ties_even() as i32 + encoding.qmin();
        encoding.zero_point[0] = zero_point.clamp(encoding.qmin(), encoding.qmax());
        encoding
    }

    /// The same values and the same grid in integers of the other signedness: zero points, and with them the integers, move
    /// by `2^(bits-1)`.
    pub fn with_sign(mut self, signed: bool) -> Self {
        if signed != self.signed {
            let half = 1 << (self.bits - 1);
            self.signed = signed;
            self.zero_point.iter_mut().for_each(|z| *z += if signed { -half } else { half });
        }
        self
    }

    /// Smallest stored integer.
    pub fn qmin(&self) -> i32 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    /// Largest stored integer.
    pub fn qmax(&self) -> i32 {
        if self.signed { (1 << (self.bits - 1)) - 1 } else { (1 << self.bits) - 1 }
    }

    /// Whether every output channel has its own scale.
    pub fn is_per_channel(&self) -> bool {
        self.scale.len() > 1
    }

    /// Scale and zero point of output channel `k` (of the tensor, if there is only one pair).
    pub fn channel(&self, k: usize) -> (f32, i32) {
        let i = if self.is_per_channel() { k } else { 0 };
        (self.scale[i], self.zero_point[i])
    }

    /// `sat(RNE(x / scale) + zero_point)` for channel `k`.
    pub fn quantize(&self, k: usize, x: f32) -> i32 {
        let (scale, zero_point) = self.channel(k);
        // The cast saturates, so that infinities end at the rails; NaN cannot be here (checked on entry).
        let q = ((x / scale).round_ties_even() as i32).saturating_add(zero_point);
        q.clamp(self.qmin(), self.qmax())
    }

    /// `(q - zero_point) * scale` for channel `k`.
    pub fn dequantize(&self, k: usize, q: i32) -> f32 {
        let (scale, zero_point) = self.channel(k);
        (q - zero_point) as f32 * scale
    }

    /// `dequantize(quantize(x))`: the value that simulation works with.
    pub fn fake(&self, k: usize, x: f32) -> f32 {
        self.dequantize(k, self.quantize(k, x))
    }
}
