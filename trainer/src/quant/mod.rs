//! SimQuant: training sees what quantization will do (Eq. 1 to 4 of the paper).
//!
//! *Enters*: weights with the BatchNorm that folding will multiply into them, ranges of activations. *Leaves*: the values
//! that the integers will stand for, encodings. *Refused*: values that are not finite.
//!
//! A weight is quantized as it will be deployed: multiplied with `gamma / sqrt(EMA(variance) + epsilon)` (Eq. 4), rounded
//! (Eq. 1 to 3), and divided by the same factor again, so that the BatchNorm behind it can still normalize with the
//! statistics of the batch. That equals folding with the running statistics and correcting by the batch's. The factor is
//! a constant to the gradient; scale and shift learn through the BatchNorm. With one scale a tensor, channels that carry
//! nothing are kept from setting it ([`quiet`]). Or weights are rounded as they are, and BatchNorm stays behind them, on the
//! accumulator ([`Simulation::unfolded`]).

mod activations;
mod quiet;
#[cfg(test)]
mod tests;
mod weights;

pub use activations::{Ranges, input_encoding};
use exporter::calibrate::{Clipping, Width};
use exporter::quantize::{Scheme, Weights};
pub(crate) use quiet::restrain;
use serde::{Deserialize, Serialize};
pub use weights::{Simulated, simulate};

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Simulation {
    /// Width, form and range of the weights.
    pub weights: Weights,
    /// Width of the activations; one scale and zero point for each tensor.
    pub activations: Width,
    /// Share of a batch's values of a tensor that its range leaves out at either end, 0 to 1/2: 0 for the smallest to the
    /// largest, as in the paper.
    #[serde(default)]
    pub cut: f32,
    /// Whether ranges with values of both signs have a level for each ([`ops::both_signs`](crate::ops::both_signs)).
    #[serde(default)]
    pub both_signs: bool,
}

impl Simulation {
    /// The paper's: unsigned, asymmetric, one encoding for each tensor, from the smallest to the largest value.
    pub const fn tensorwise(weight_bits: u8, activation_bits: u8) -> Self {
        Self::new(weight_bits, activation_bits, Scheme::AsymmetricPerTensor)
    }

    /// Symmetric weights with a scale for each output channel.
    pub const fn channelwise(weight_bits: u8, activation_bits: u8) -> Self {
        Self::new(weight_bits, activation_bits, Scheme::SymmetricPerChannel)
    }

    /// Unsigned, asymmetric, one encoding for each tensor of weights as they are before BatchNorm is folded, as hypernetworks
    /// are trained with [`Normalization::Accumulator`](crate::hypernet::Normalization).
    pub const fn unfolded(weight_bits: u8, activation_bits: u8) -> Self {
        Self::new(weight_bits, activation_bits, Scheme::AsymmetricUnfolded)
    }

    /// The same with ranges that leave out the ends of what has two bits: 5 % of the weights and 3 % of the activations at either
    /// end, and activations of both signs with a level for each. From the smallest to the largest value, two bits would round
    /// nearly everything to 0.
    pub fn clipped(mut self) -> Self {
        if self.weights.bits == 2 {
            self.weights.clipping = Clipping::Percentile { low: 5.0, high: 95.0 };
        }
        if self.activations.bits == 2 {
            self.cut = 0.03;
            self.both_signs = true;
        }
        self
    }

    const fn new(weight_bits: u8, activation_bits: u8, scheme: Scheme) -> Self {
        Self {
            weights: Weights { bits: weight_bits, scheme, clipping: Clipping::MinMax },
            activations: Width { bits: activation_bits, signed: false },
            cut: 0.0,
            both_signs: false,
        }
    }
}

/// Why quantization cannot be simulated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// Training has left the range of floats.
    #[error("`{name}` holds a value that is not finite: training has diverged (a lower learning rate may help)")]
    NotFinite {
        /// The tensor's or parameter's name.
        name: String,
    },
    /// Ranges were never collected.
    #[error("tensor `{name}` has no range yet: quantization begins after ranges were collected")]
    NoRange {
        /// The tensor's name.
        name: String,
    },
    /// Percentiles that are none.
    #[error("{0}")]
    Parameter(String),
}
