//! From a trained network to its integers in one call: fold, calibrate, quantize.
//!
//! *Enters*: a network as trained or imported, images to calibrate on, and [`Options`]. *Leaves*: [`Quantized`]: the
//! network that both writers read, and how far each step moved it. *Refused*: what the three passes refuse.

use serde::{Deserialize, Serialize};

use crate::calibrate::{self, CalibrateError, Clipping, Ranges, Width};
use crate::execute::ExecuteError;
use crate::fold::{self, Difference, FoldError};
use crate::network::Network;
use crate::quantize::{self, QuantizeError, Scheme, Weights};

/// How a network is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Of the activations.
    pub activations: Width,
    /// Where their ranges come from. `None`: trained, if the network carries them, else minimum to maximum.
    pub ranges: Option<Ranges>,
    /// Of the weights.
    pub weights: Weights,
}

impl Options {
    /// The form that every mobile engine takes, and the paper's: unsigned, asymmetric, per tensor.
    pub fn mobile(weight_bits: u8, activation_bits: u8) -> Self {
        Self {
            activations: Width { bits: activation_bits, signed: false },
            ranges: None,
            weights: Weights { bits: weight_bits, scheme: Scheme::AsymmetricPerTensor, clipping: Clipping::MinMax },
        }
    }

    /// Symmetric weights with a scale for each output channel.
    pub fn per_channel(weight_bits: u8, activations: Width) -> Self {
        let mut options = Self::mobile(weight_bits, activations.bits);
        options.activations = activations;
        options.weights.scheme = Scheme::SymmetricPerChannel;
        options
    }
}

/// A network in integers, and how it came about.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// Without BatchNorm, with encodings and integers.
    pub network: Network,
    /// What folding BatchNorm changed on the calibration images.
    pub folding: Difference,
    /// Where the ranges came from.
    pub ranges: Ranges,
}

/// Why a network cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// BatchNorm cannot be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The network cannot be run on the images.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// Ranges cannot be had.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// Integers cannot be had.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
}

/// Folds BatchNorm, finds ranges and quantizes. `images` is `N H W C` bytes, at least one image.
///
/// # Errors
/// [`PipelineError`] naming node or tensor.
pub fn quantize_network(network: &Network, images: &[u8], options: &Options) -> Result<Quantized, PipelineError> {
    let folded = fold::fold(network)?;
    let folding = fold::compare(network, &folded, images)?;
    let default = if calibrate::is_trained(&folded) { Ranges::Trained } else { Ranges::Measured(Clipping::MinMax) };
    let ranges = options.ranges.unwrap_or(default);
    let calibrated = calibrate::calibrate(folded, images, options.activations, ranges)?;
    Ok(Quantized { network: quantize::quantize(calibrated, options.weights)?, folding, ranges })
}
