//! One folder for each op. Enters: the op's constants and the bytes of its inputs. Leaves: the bytes of its output.
//! Refuses nothing: [`Image::check`](crate::image::Image::check) has refused whatever does not fit together.
//!
//! `reference.rs` is the plain meaning and stays so; `portable.rs`, where there is one, computes the same integers faster,
//! on any core. Which of them run is said by [`Kernels`]. `simd.rs` is for hosts: one text for all vector instructions, which
//! are in `simd/`; `dsp.rs` for cores with the DSP instructions, which are in `dsp/`, `raw.rs` for
//! those that multiply bytes as they are, with vectors (`mve/`) or with nothing but 32-bit multiplications (`thumb/`). A reshape has no kernel: its output is
//! where its input was.
//!
//! Letters: `H W C` height, width, channels of the input; `K` output channels; `R S` height and width of the window.

pub mod add;
pub mod average_pool;
#[cfg(any(intact_cortex_m, test, feature = "testing"))]
mod channels;
#[cfg(any(intact_cortex_m, test, feature = "testing"))]
mod columns;
pub mod concat;
pub mod conv2d;
pub mod dense;
#[cfg(not(intact_cortex_m))]
mod dot;
#[cfg(any(intact_dsp, test, feature = "testing"))]
mod dsp;
#[cfg(any(intact_cortex_m, test, feature = "testing"))]
mod factors;
pub mod global_average_pool;
pub mod linked;
pub mod lookup;
pub mod max_pool;
pub mod mul;
#[cfg(any(intact_mve, test, feature = "testing"))]
mod mve;
pub mod pad;
#[cfg(any(intact_mve, test, feature = "testing"))]
mod pixel;
#[cfg(any(intact_mve, intact_thumb, test, feature = "testing"))]
mod raw;
pub(crate) mod scratch;
#[cfg(any(test, feature = "std"))]
pub(crate) mod simd;
pub mod softmax;
pub(crate) mod strips;
#[cfg(any(intact_thumb, test, feature = "testing"))]
mod thumb;
mod window;

pub use scratch::{COLUMNS, column_bytes, scratch_bytes};
pub use strips::lead;
pub use window::Window;

use crate::{
    arith::{Requantize, Requantizer, widen},
    image::Tensor,
};

/// Which implementation of the ops runs. All give the same integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// The plain meaning, slow.
    Reference,
    /// For any core that has none of its own.
    #[cfg(not(intact_cortex_m))]
    #[default]
    Portable,
    /// For a Cortex-M with the DSP instructions; elsewhere, where tests want it, the same kernels on a model of them.
    #[cfg(any(intact_dsp, test, feature = "testing"))]
    #[cfg_attr(intact_dsp, default)]
    Dsp,
    /// For a Cortex-M with vector instructions (MVE, as a Cortex-M55 has them); elsewhere, where tests want it, the
    /// same kernels on a model of them.
    #[cfg(any(intact_mve, test, feature = "testing"))]
    #[cfg_attr(intact_mve, default)]
    Mve,
    /// For a Cortex-M with neither (M0, M0+, M3); elsewhere, where tests want it, the same kernels on a model of it.
    #[cfg(any(intact_thumb, test, feature = "testing"))]
    #[cfg_attr(intact_thumb, default)]
    Thumb,
}

/// A tensor that is read.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `H W C`, one byte each.
    pub bytes: &'a [u8],
    /// `H W C`.
    pub shape: [usize; 3],
    /// Whether the bytes are two's complement.
    pub signed: bool,
    /// The integer that stands for 0.0.
    pub zero_point: i32,
}

impl<'a> Input<'a> {
    /// `tensor`, with the bytes it has in the arena.
    pub fn new(tensor: &Tensor, bytes: &'a [u8]) -> Self {
        Self { bytes, shape: tensor.shape(), signed: tensor.repr.signed, zero_point: tensor.repr.zero_point }
    }

    /// The integer at `y x c`.
    #[inline]
    pub fn at(&self, y: usize, x: usize, c: usize) -> i32 {
        let [_, w, channels] = self.shape;
        widen(self.bytes[(y * w + x) * channels + c], self.signed)
    }
}

/// A tensor that is written.
#[derive(Debug)]
pub struct Output<'a> {
    /// `H W C`, one byte each.
    pub bytes: &'a mut [u8],
    /// `H W C`.
    pub shape: [usize; 3],
    /// The integer that stands for 0.0.
    pub zero_point: i32,
    /// Ends of the op's clamp.
    pub clamp: [i32; 2],
}

impl<'a> Output<'a> {
    /// `tensor`, with the bytes it has in the arena, written by an op of that clamp.
    pub fn new(tensor: &Tensor, clamp: [i32; 2], bytes: &'a mut [u8]) -> Self {
        Self { bytes, shape: tensor.shape(), zero_point: tensor.repr.zero_point, clamp }
    }

    /// From accumulators to stored integers, with the multiplier `m`.
    #[inline]
    pub fn requantizer(&self, m: f32) -> Requantizer {
        Requantizer::new(m, self.zero_point, self.clamp)
    }

    /// Stores an integer at `y x c`.
    #[inline]
    pub fn put(&mut self, y: usize, x: usize, c: usize, value: i32) {
        let [_, w, channels] = self.shape;
        self.bytes[(y * w + x) * channels + c] = value as u8;
    }
}

#[cfg(test)]
mod tests;
