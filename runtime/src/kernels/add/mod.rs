//! ONNX Add of two tensors of one shape, on integers. Enters: two stored integers for each element, each of its own
//! encoding. Leaves: their sum in a third. The output may take the place of an input, so that all three are cells.

#[cfg(any(intact_dsp, test, feature = "testing"))]
mod dsp;
#[cfg(any(intact_mve, test, feature = "testing"))]
mod mve;
mod reference;
#[cfg(any(test, feature = "std"))]
pub(crate) mod simd;
#[cfg(any(intact_dsp, intact_mve, test, feature = "testing"))]
mod sum;

#[cfg(any(intact_dsp, intact_mve, test, feature = "testing"))]
pub(super) use sum::Sum;

use super::Kernels;
#[cfg(any(intact_dsp, test, feature = "testing"))]
use super::dsp::Instructions;
#[cfg(any(intact_mve, test, feature = "testing"))]
use super::mve as vectors;
use crate::arith::AddRescale;
use core::cell::Cell;

/// Constants of an Add.
#[derive(Clone, Copy, Debug)]
pub struct Add {
    /// From two integers to one.
    pub rescale: AddRescale,
    /// Whether each input is two's complement.
    pub signed: [bool; 2],
}

/// Writes the sums; all three slices have one length.
pub fn run(kernels: Kernels, add: &Add, inputs: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
    match kernels {
        #[cfg(any(intact_dsp, test, feature = "testing"))]
        Kernels::Dsp => dsp::run::<Instructions>(add, inputs, y),
        #[cfg(any(intact_mve, test, feature = "testing"))]
        Kernels::Mve => mve::run::<vectors::Instructions>(add, inputs, y),
        _ => reference::run(add, inputs, y),
    }
}
