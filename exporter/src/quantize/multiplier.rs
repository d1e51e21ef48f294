//! The constants of `docs/arithmetic.md`, from scales to multipliers and tables. Enters: encodings. Leaves: the numbers
//! that the flash image stores, in exactly the order of operations that the contract states. Refuses: multipliers that
//! are not positive, normal and below 2^31 (as `Err` with the value; callers add the node's name).

use runtime::arith::{ADD_MULTIPLIER_MAX, ADD_SHIFT_MAX, SOFTMAX_ONE, SOFTMAX_SHIFT_MAX, is_multiplier};

use crate::network::{Encoding, Function};

/// `M = f32(f32(sx * sw) / sy)` of a convolution or dense layer.
///
/// # Errors
/// The multiplier, if it is not positive, normal and below 2^31.
pub fn multiplier(input: f32, weight: f32, output: f32) -> Result<f32, f32> {
    exact(input * weight / output)
}

/// `M = f32(sx / f32(sy * f32(n)))` of a mean over `n` taps.
///
/// # Errors
/// As [`multiplier`].
pub fn mean_multiplier(input: f32, output: f32, taps: usize) -> Result<f32, f32> {
    exact(input / (output * taps as f32))
}

fn exact(multiplier: f32) -> Result<f32, f32> {
    if is_multiplier(multiplier) { Ok(multiplier) } else { Err(multiplier) }
}

/// `A`, `B` and `shift` of an Add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddMultipliers {
    /// `RNE(s / sy * 2^shift)` for both inputs, each at most `2^22`.
    pub multipliers: [i32; 2],
    /// 0 to 30.
    pub shift: u8,
}

/// `A`, `B` and `shift`, the largest shift for which both fit.
///
/// # Errors
/// The larger of the two quotients, if not even shift 0 will do.
pub fn add_multipliers(inputs: [f32; 2], output: f32) -> Result<AddMultipliers, f32> {
    let quotients = inputs.map(|input| f64::from(input) / f64::from(output));
    let at = |shift: u8| quotients.map(|q| (q * f64::from(1u32 << shift)).round_ties_even());
    let fits = |shift: &u8| at(*shift).iter().all(|&m| m <= f64::from(ADD_MULTIPLIER_MAX));
    let shift = (0..=ADD_SHIFT_MAX).rev().find(fits).ok_or(quotients[0].max(quotients[1]) as f32)?;
    Ok(AddMultipliers { multipliers: at(shift).map(|m| m as i32), shift })
}

/// `T`, `A` and `shift` of a Softmax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftmaxConstants {
    /// `RNE(2^30 * e^(-d * sx))` for each distance `d` that two integers of the input can have.
    pub table: Vec<u32>,
    /// `RNE(2^shift / sy)`, at most `2^22`.
    pub multiplier: i32,
    /// 0 to 16.
    pub shift: u8,
}

/// The table of exponentials, and `A` with the largest shift for which it fits.
///
/// # Errors
/// `1 / sy`, if not even shift 0 will do.
pub fn softmax_constants(input: &Encoding, output: &Encoding) -> Result<SoftmaxConstants, f32> {
    let (sx, sy) = (f64::from(input.scale[0]), f64::from(output.scale[0]));
    let at = |shift: u8| (f64::from(1u32 << shift) / sy).round_ties_even();
    let fits = |shift: &u8| at(*shift) <= f64::from(ADD_MULTIPLIER_MAX);
    let shift = (0..=SOFTMAX_SHIFT_MAX).rev().find(fits).ok_or((1.0 / sy) as f32)?;
    let power = |d: i32| (f64::from(SOFTMAX_ONE) * (-f64::from(d) * sx).exp()).round_ties_even() as u32;
    let table = (0..=input.qmax() - input.qmin()).map(power).collect();
    Ok(SoftmaxConstants { table, multiplier: at(shift) as i32, shift })
}

/// `[lo, hi]`: the output's limits, narrowed by a clamp `(min, max)` of real values.
pub fn clamp_limits(output: &Encoding, clamp: Option<(f32, f32)>) -> (i32, i32) {
    clamp.map_or((output.qmin(), output.qmax()), |(min, max)| (output.quantize(0, min), output.quantize(0, max)))
}

/// The table from one encoding to another, indexed by the stored byte (two's complement if the input is signed); bytes
/// that the input cannot hold map to what its nearest integer maps to.
pub fn table(input: &Encoding, output: &Encoding, limits: (i32, i32)) -> [u8; 256] {
    table_of(input, output, limits, |x| x)
}

/// The table of a function between two encodings, likewise.
pub fn function_table(function: Function, input: &Encoding, output: &Encoding, limits: (i32, i32)) -> [u8; 256] {
    table_of(input, output, limits, |x| function.apply(x))
}

fn table_of(input: &Encoding, output: &Encoding, (low, high): (i32, i32), function: impl Fn(f32) -> f32) -> [u8; 256] {
    std::array::from_fn(|byte| {
        let x = if input.signed { i32::from(byte as u8 as i8) } else { byte as i32 };
        let x = x.clamp(input.qmin(), input.qmax());
        output.quantize(0, function(input.dequantize(0, x))).clamp(low, high) as u8
    })
}
