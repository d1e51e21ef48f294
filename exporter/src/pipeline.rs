//! From a trained network to its integers in one call: fold, equalize, calibrate, quantize, round, correct.
//!
//! *Enters*: a network as trained or imported, images to calibrate on, and [`Options`]. *Leaves*: [`Quantized`]: the
//! network that both writers read, and how far each step moved it. *Refused*: what the passes refuse.

use serde::{Deserialize, Serialize};

use crate::calibrate::{self, CalibrateError, Clipping, Grid, Ranges, Width};
use crate::correct::{self, CorrectError, Correction};
use crate::equalize::{self, EqualizeError, Pair};
use crate::execute::ExecuteError;
use crate::fold::{self, Difference, FoldError};
use crate::network::{Network, Node};
use crate::quantize::{self, QuantizeError, Scheme, Weights};
use crate::rounding::{self, Rounding, RoundingError};

/// How a network is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Of the activations.
    pub activations: Width,
    /// Whether their zero point is in the middle (see [`calibrate::Grid`]).
    pub symmetric_activations: bool,
    /// Where their ranges come from. `None`: trained, if the network carries them, else minimum to maximum.
    pub ranges: Option<Ranges>,
    /// Of the weights.
    pub weights: Weights,
    /// Whether neighbouring layers are scaled against each other first ([`equalize`]).
    pub equalize: bool,
    /// Whether weights are rounded with a view to what their layer reads ([`rounding`]).
    pub compensate: bool,
    /// Whether biases take back the mean error of each channel ([`correct`]).
    pub correct: bool,
}

impl Options {
    /// The form that every mobile engine takes, and the paper's: unsigned, asymmetric, per tensor.
    pub fn mobile(weight_bits: u8, activation_bits: u8) -> Self {
        Self {
            activations: Width { bits: activation_bits, signed: false },
            symmetric_activations: false,
            ranges: None,
            weights: Weights { bits: weight_bits, scheme: Scheme::AsymmetricPerTensor, clipping: Clipping::MinMax },
            equalize: false,
            compensate: false,
            correct: false,
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

/// A network in floats with encodings on its activations: all that does not depend on the width of the weights.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Without BatchNorm, equalized if asked for, with encodings.
    pub network: Network,
    /// What folding BatchNorm changed on the calibration images.
    pub folding: Difference,
    /// The pairs of layers that were scaled, and what that changed on the calibration images.
    pub equalizing: Option<(Vec<Pair>, Difference)>,
    /// Where the ranges came from.
    pub ranges: Ranges,
}

/// A network in integers, and how it came about.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// Without BatchNorm, with encodings and integers.
    pub network: Network,
    /// What folding BatchNorm changed on the calibration images.
    pub folding: Difference,
    /// The pairs of layers that were scaled, and what that changed on the calibration images.
    pub equalizing: Option<(Vec<Pair>, Difference)>,
    /// Where the ranges came from.
    pub ranges: Ranges,
    /// What rounding did, layer by layer; empty if to the nearest integer.
    pub roundings: Vec<Rounding>,
    /// What bias correction did, layer by layer; empty without it.
    pub corrections: Vec<Correction>,
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
    /// Layers cannot be scaled against each other.
    #[error(transparent)]
    Equalize(#[from] EqualizeError),
    /// Weights cannot be rounded.
    #[error(transparent)]
    Rounding(#[from] RoundingError),
    /// Biases cannot be corrected.
    #[error(transparent)]
    Correct(#[from] CorrectError),
}

/// Folds BatchNorm, finds ranges and quantizes. `images` is `N H W C` bytes, at least one image.
///
/// # Errors
/// [`PipelineError`] naming node or tensor.
pub fn quantize_network(network: &Network, images: &[u8], options: &Options) -> Result<Quantized, PipelineError> {
    prepare(network, images, options)?.quantize(images, options, |_| options.weights.bits, || {})
}

/// Folds BatchNorm, equalizes if asked for, and finds ranges. Weights of [`Scheme::AsymmetricUnfolded`] are rounded first, so
/// that ranges are of what they compute then.
///
/// # Errors
/// [`PipelineError`] naming node or tensor.
pub fn prepare(network: &Network, images: &[u8], options: &Options) -> Result<Prepared, PipelineError> {
    let unfolded = options.weights.scheme == Scheme::AsymmetricUnfolded;
    if unfolded && (options.equalize || options.compensate) {
        let reason = "equalization and compensated rounding work on folded weights; these are rounded before";
        return Err(QuantizeError::Parameter(reason.into()).into());
    }
    let rounded = if unfolded { Some(quantize::round_unfolded(network.clone(), options.weights)?) } else { None };
    let network = rounded.as_ref().unwrap_or(network);
    let mut folded = fold::fold(network)?;
    let folding = fold::compare(network, &folded, images)?;
    let mut equalizing = None;
    if options.equalize {
        let (equalized, pairs) = equalize::equalize(folded.clone())?;
        let difference = fold::compare(&folded, &equalized, images)?;
        (folded, equalizing) = (equalized, Some((pairs, difference)));
    }
    let default = if calibrate::is_trained(&folded) { Ranges::Trained } else { Ranges::Measured(Clipping::MinMax) };
    let ranges = options.ranges.unwrap_or(default);
    let grid = Grid { symmetric: options.symmetric_activations, ..options.activations.grid() };
    Ok(Prepared { network: calibrate::calibrate_to(folded, images, grid, ranges)?, folding, equalizing, ranges })
}

impl Prepared {
    /// Quantizes each layer to `bits` of weights, and rounds and corrects biases as `options` asks for: each of the two
    /// calls `progress` after each layer.
    ///
    /// # Errors
    /// [`PipelineError`] naming node or tensor.
    pub fn quantize(
        self,
        images: &[u8],
        options: &Options,
        bits: impl Fn(&Node) -> u8,
        progress: impl Fn(),
    ) -> Result<Quantized, PipelineError> {
        let weights = |node: &Node| Weights { bits: bits(node), ..options.weights };
        let mut network = quantize::quantize_each(self.network, weights)?;
        let (mut roundings, mut corrections) = (Vec::new(), Vec::new());
        if options.compensate {
            (network, roundings) = rounding::compensate(network, images, options.correct, &progress)?;
        }
        if options.correct {
            (network, corrections) = correct::correct(network, images, &progress)?;
        }
        let Self { folding, equalizing, ranges, .. } = self;
        Ok(Quantized { network, folding, equalizing, ranges, roundings, corrections })
    }
}
