//! ONNX Gemm (opset 13) on integers, as ONNX Runtime's QGemm. Enters: all integers of the input, in `H W C` order, weights
//! of 8, 4 or 2 bits `K C`. Leaves: `K` integers.

#[cfg(not(intact_cortex_m))]
mod portable;
mod reference;
#[cfg(any(intact_cortex_m, test, feature = "testing"))]
mod rows;

#[cfg(any(intact_mve, test, feature = "testing"))]
use super::mve::{Instructions, Mve};
use super::{Input, Kernels, Output};
use crate::image::Weights;

/// Writes the layer's output.
pub fn run(kernels: Kernels, weights: &Weights, x: Input, y: Output) {
    match kernels {
        Kernels::Reference => reference::run(weights, x, y),
        #[cfg(not(intact_cortex_m))]
        Kernels::Portable => portable::run(weights, x, y),
        #[cfg(any(intact_dsp, test, feature = "testing"))]
        Kernels::Dsp => rows::run(weights, x, y, |factors| factors.dot()),
        #[cfg(any(intact_mve, test, feature = "testing"))]
        Kernels::Mve => rows::run(weights, x, y, Instructions::dot),
        #[cfg(any(intact_thumb, test, feature = "testing"))]
        Kernels::Thumb => rows::run(weights, x, y, |factors| factors.dot()),
    }
}
