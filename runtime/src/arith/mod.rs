//! The arithmetic contract (`docs/arithmetic.md`), once. Enters: i32 accumulators and the constants of an op. Leaves:
//! stored integers. Refuses nothing: [`Image::check`](crate::image::Image::check) has refused constants outside the
//! limits stated here.

mod add;
mod requantize;

pub use add::AddRescale;
pub use requantize::{FloatRequantizer, IntegerRequantizer, Requantize, Requantizer};

/// Number of the arithmetic contract `ort-f32-rne`, the only one.
pub const CONTRACT: u32 = 1;

/// Name of [`CONTRACT`], for metadata and messages.
pub const CONTRACT_NAME: &str = "ort-f32-rne";

/// Greatest multiplier of an Add.
pub const ADD_MULTIPLIER_MAX: i32 = 1 << 22;

/// Greatest shift of an Add.
pub const ADD_SHIFT_MAX: u8 = 30;

/// Greatest shift of a Softmax.
pub const SOFTMAX_SHIFT_MAX: u8 = 16;

/// What stands for 1 among the exponentials of a Softmax, the largest of them.
pub const SOFTMAX_ONE: u32 = 1 << 30;

/// Whether `m` may be the multiplier of a requantization: positive, normal, finite, below `2^31`.
pub fn is_multiplier(m: f32) -> bool {
    m.is_normal() && m > 0.0 && m < 2_147_483_648.0
}

/// Least and greatest integer of an encoding.
pub const fn limits(bits: u8, signed: bool) -> (i32, i32) {
    if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// The integer that a stored byte stands for.
pub const fn widen(byte: u8, signed: bool) -> i32 {
    if signed { byte as i8 as i32 } else { byte as i32 }
}

/// `v / 2^s`, rounded to the nearest integer, ties to even.
const fn rne_shr(v: u64, s: u32) -> u64 {
    match s {
        0 => v,
        1..=63 => {
            let (quotient, rest, half) = (v >> s, v & ((1 << s) - 1), 1 << (s - 1));
            quotient + (rest > half || (rest == half && quotient & 1 == 1)) as u64
        }
        // At most a half, and then the even neighbour is 0; or the one value above it.
        64 => (v > 1 << 63) as u64,
        _ => 0,
    }
}

/// `n / d`, rounded to the nearest integer, ties to even; `d` is not 0 and below `2^63`.
pub(crate) const fn rne_div(n: u64, d: u64) -> u64 {
    let (quotient, twice) = (n / d, 2 * (n % d));
    quotient + (twice > d || (twice == d && quotient & 1 == 1)) as u64
}

/// A bound on `|acc|` of one output channel of a convolution or dense layer: `|bias| + reach * sum |w - zw|`, where
/// `reach` is the largest `|x - zx|` that the input's encoding holds and `weights` are `w - zw`. A layer whose bound
/// passes `i32::MAX` is refused by the exporter and by the image check alike.
pub fn accumulator_bound(bias: i32, reach: u32, weights: impl Iterator<Item = i32>) -> u64 {
    let sum: u64 = weights.map(|w| u64::from(w.unsigned_abs())).sum();
    u64::from(bias.unsigned_abs()) + u64::from(reach) * sum
}

/// Largest `|x - zero_point|` of an encoding.
pub const fn reach(bits: u8, signed: bool, zero_point: i32) -> u32 {
    let (low, high) = limits(bits, signed);
    let (down, up) = (zero_point.abs_diff(low), zero_point.abs_diff(high));
    if down > up { down } else { up }
}

#[cfg(test)]
mod tests;
