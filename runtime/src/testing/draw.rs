//! Numbers, encodings and layers drawn from a seed (SplitMix64: small, and good enough to vary tests).

use super::{Encoding, Layer};
use crate::arith;
use std::ops::RangeInclusive;

/// A source of drawn things.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// Every seed gives another sequence.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any u64.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// An integer of a range that is not empty.
    pub fn int(&mut self, range: RangeInclusive<i32>) -> i32 {
        let (low, high) = (i64::from(*range.start()), i64::from(*range.end()));
        (low + (self.bits() % (high - low + 1) as u64) as i64) as i32
    }

    /// A size, for extents and counts.
    pub fn size(&mut self, range: RangeInclusive<u16>) -> u16 {
        self.int((*range.start()).into()..=(*range.end()).into()) as u16
    }

    /// One of `values`.
    pub fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.bits() as usize % values.len()]
    }

    /// A value in `low .. high` that is no power of two, evenly distributed in its logarithm.
    pub fn real(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.bits() >> 40) as f32 / (1u64 << 24) as f32;
        low * (high / low).powf(unit)
    }

    /// An integer of an encoding; the ends of its limits come up often.
    pub fn integer(&mut self, bits: u8, signed: bool) -> i32 {
        let (low, high) = arith::limits(bits, signed);
        match self.int(0..=7) {
            0 => low,
            1 => high,
            _ => self.int(low..=high),
        }
    }

    /// An encoding of that many bits; its zero point is often at an end.
    pub fn encoding(&mut self, bits: u8) -> Encoding {
        let signed = self.of(&[false, true]);
        Encoding { bits, signed, scale: self.real(1e-3, 1.0), zero_point: self.integer(bits, signed) }
    }

    /// A clamp within the encoding: mostly none, or a fused ReLU.
    pub fn clamp(&mut self, y: Encoding) -> [i32; 2] {
        let (low, high) = y.limits();
        match self.int(0..=3) {
            0 => [y.zero_point, high],
            1 => {
                let (a, b) = (self.int(low..=high), self.int(low..=high));
                [a.min(b), a.max(b)]
            }
            _ => [low, high],
        }
    }

    /// Stored bytes of an encoding.
    pub fn stored(&mut self, encoding: Encoding, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.integer(encoding.bits, encoding.signed) as u8).collect()
    }

    /// Weights for `channels` outputs of `taps` terms each, with multipliers that spread the sums over the output.
    pub fn layer(&mut self, x: Encoding, channels: usize, taps: usize) -> Layer {
        let (bits, signed) = (self.of(&[8, 8, 4, 2]), self.of(&[false, true]));
        let many = if self.of(&[false, true]) { channels } else { 1 };
        let zero_points: Vec<i32> = match self.int(0..=2) {
            0 if signed => vec![0; many],
            _ => (0..many).map(|_| self.integer(bits, signed)).collect(),
        };
        let spread = f64::from(arith::reach(x.bits, x.signed, x.zero_point))
            * f64::from(1u32 << (bits - 1))
            * (taps as f64).sqrt();
        Layer {
            bits,
            signed,
            weights: (0..channels * taps).map(|_| self.integer(bits, signed)).collect(),
            zero_points,
            bias: (0..channels).map(|_| (f64::from(self.int(-99..=99)) / 50.0 * spread) as i32).collect(),
            multipliers: (0..channels).map(|_| self.real(20.0, 300.0) / spread.max(1.0) as f32).collect(),
        }
    }
}
