//! `y = clamp(RNE(f32(f32(acc) * M)) + zy, lo, hi)`, with float instructions and, for cores without them, in integers
//! alone. Enters: any i32 accumulator. Leaves: the stored integer. Both give the same one for every accumulator and
//! every multiplier that [`is_multiplier`](super::is_multiplier) accepts.

use super::rne_shr;

/// What both ways of requantizing share: they are made once for each output channel, and then fed accumulators.
pub trait Requantize: Copy {
    /// `multiplier` satisfies [`is_multiplier`](super::is_multiplier); `zero_point` and `clamp` lie within the limits of one
    /// encoding of at most 8 bits.
    fn new(multiplier: f32, zero_point: i32, clamp: [i32; 2]) -> Self;

    /// The stored integer, within the clamp.
    fn apply(self, acc: i32) -> i32;
}

/// The one that is faster on the core being compiled for.
#[cfg(any(
    target_arch = "x86",
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "arm", target_abi = "eabihf")
))]
pub type Requantizer = FloatRequantizer;
/// The one that is faster on the core being compiled for.
#[cfg(not(any(
    target_arch = "x86",
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "arm", target_abi = "eabihf")
)))]
pub type Requantizer = IntegerRequantizer;

/// With float instructions: convert, multiply, clamp, round.
///
/// The clamp comes first: rounding keeps the order of values and the ends of the clamp are integers, so that clamping
/// before or after rounding is the same. Clamped values are small enough for rounding by adding `1.5 * 2^23`, where f32
/// has no bits left for a fraction; `core` has no `round_ties_even`, and a Cortex-M4 no instruction for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatRequantizer {
    multiplier: f32,
    low: f32,
    high: f32,
    /// Taken from the bits of the rounded sum: those of `1.5 * 2^23`, less the zero point.
    offset: i32,
}

/// `1.5 * 2^23`: adding it to a value within `+-2^22` leaves the value, rounded, in the low bits.
const ROUNDER: f32 = 12_582_912.0;

impl Requantize for FloatRequantizer {
    #[inline]
    fn new(multiplier: f32, zero_point: i32, [low, high]: [i32; 2]) -> Self {
        Self {
            multiplier,
            low: (low - zero_point) as f32,
            high: (high - zero_point) as f32,
            offset: ROUNDER.to_bits() as i32 - zero_point,
        }
    }

    #[inline]
    fn apply(self, acc: i32) -> i32 {
        let scaled = acc as f32 * self.multiplier;
        // Comparisons rather than `clamp`, which must look after NaN and panics when the ends are swapped.
        let scaled = if scaled > self.low { scaled } else { self.low };
        let scaled = if scaled < self.high { scaled } else { self.high };
        (scaled + ROUNDER).to_bits() as i32 - self.offset
    }
}

/// In integers: the multiplier is `mantissa * 2^exponent`, and the two roundings of `f32(acc)` and of the product are
/// shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerRequantizer {
    /// `2^23 ..= 2^24 - 1`.
    mantissa: u32,
    /// `-149 ..= 7`.
    exponent: i32,
    zero_point: i32,
    clamp: [i32; 2],
}

/// Bits of the mantissa of f32, the leading one included.
const PRECISION: u32 = 24;

impl Requantize for IntegerRequantizer {
    #[inline]
    fn new(multiplier: f32, zero_point: i32, clamp: [i32; 2]) -> Self {
        let bits = multiplier.to_bits();
        Self { mantissa: bits & 0x7f_ffff | 0x80_0000, exponent: (bits >> 23) as i32 - 150, zero_point, clamp }
    }

    #[inline]
    fn apply(self, acc: i32) -> i32 {
        let magnitude = acc.unsigned_abs();
        let q = self.quick(magnitude).unwrap_or_else(|| self.slow(magnitude));
        let y = if acc < 0 { self.zero_point - q } else { self.zero_point + q };
        y.clamp(self.clamp[0], self.clamp[1])
    }
}

impl IntegerRequantizer {
    /// `RNE(f32(f32(magnitude) * M))`, or `2^16` if it is more, step by step.
    #[cold]
    #[inline(never)]
    fn slow(self, magnitude: u32) -> i32 {
        let (a, mut exponent) = to_precision(u64::from(magnitude), self.exponent);
        let p;
        (p, exponent) = to_precision(a * u64::from(self.mantissa), exponent);
        let q = if exponent < 0 {
            rne_shr(p, exponent.unsigned_abs())
        } else {
            // At most 24 bits, shifted by at most 7 + 8 + 24: no bit is lost.
            p << exponent
        };
        // Nothing beyond 2^16 can come back within the clamp.
        if q > 1 << 16 { 1 << 16 } else { q as i32 }
    }

    /// The same in 32-bit words, without a 64-bit product, for all but a few accumulators: those for which the bits that are left
    /// out, or the rounding of the product to f32, could matter.
    ///
    /// With `p = magnitude * mantissa` and `shift = -exponent`, `top` is `p / 2^16` less than 2. For `q < 2^9` the product has at most
    /// `shift + 9` bits, so that rounding it to 24 moves it by at most `2^(shift - 16)`, in units of `top` `2^(shift - 32)`. A
    /// remainder further than both together from one half is rounded to the same side as the exact one; near 0 or a whole step both
    /// ways lead to the same neighbour. Anything from `2^9 - 1` on is beyond every clamp, rounded or not.
    #[inline]
    fn quick(self, magnitude: u32) -> Option<i32> {
        let shift = (-self.exponent - 16) as u32;
        // With fewer bits too many remainders are near a half.
        if magnitude >> PRECISION != 0 || !(10..=31).contains(&shift) {
            return None;
        }
        let (a, b) = ([magnitude >> 12, magnitude & 0xfff], [self.mantissa >> 12, self.mantissa & 0xfff]);
        let top = ((a[0] * b[0]) << 8) + ((a[0] * b[1] + a[1] * b[0]) >> 4) + ((a[1] * b[1]) >> 16);
        let (q, rest, half) = (top >> shift, top & ((1 << shift) - 1), 1 << (shift - 1));
        let near = 3 + (1 << shift >> 16);
        (rest.abs_diff(half) > near).then_some((q + u32::from(rest > half)) as i32)
    }
}

/// `v * 2^exponent` rounded to the 24 bits of f32, as a new pair of the same meaning.
#[inline]
fn to_precision(v: u64, exponent: i32) -> (u64, i32) {
    let excess = (u64::BITS - v.leading_zeros()).saturating_sub(PRECISION);
    (rne_shr(v, excess), exponent + excess as i32)
}
