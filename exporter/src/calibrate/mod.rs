//! Scales and zero points of the activations.
//!
//! *Enters*: a network without BatchNorm, images, how wide activations are and how their ranges are found. *Leaves*: the
//! network with an encoding on every tensor that exists in integers ([`Network::integer_tensors`]), and on no other.
//! *Refused*: activations that are NaN or infinite, and trained encodings that are missing or of another width.
//!
//! Rules, whatever the method:
//! - The input holds exactly the values that its preprocessing makes of the pixels 0 to 255.
//! - MaxPool, Pad and Flatten share the encoding of what they read. A tensor behind a Clamp is measured behind it, so that its
//!   range lies within the clamp and a ReLU puts the zero point on the lower limit.
//! - The zero point of an Add's or Mul's output is even: see [`even_zero_point`].
//! - A Softmax has steps of `2^-bits` from 0 on, whatever the images: see [`Grid::shares`].
//! - Scales behind Add and AveragePool, trained ones too, are such that no result lies on a tie, where engines part ways: see
//!   [`ties`].

mod measure;
mod range;
#[cfg(test)]
mod tests;
mod ties;

use serde::{Deserialize, Serialize};

use crate::execute::ExecuteError;
use crate::network::{Encoding, Network, Op, TensorId};

pub use range::{Grid, Range, percentile, range};

/// How a range is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Clipping {
    /// From the smallest to the largest value; the paper's "absolute".
    MinMax,
    /// From one percentile to another, `0 <= low < high <= 100`, interpolated linearly between neighbours.
    Percentile {
        /// Share of the values below the range, in per cent.
        low: f64,
        /// Share of the values below the upper end, in per cent.
        high: f64,
    },
    /// The range with the smallest mean squared error of the rounded and clipped values.
    Mse,
    /// The range that keeps most of the distribution (Kullback-Leibler divergence).
    Entropy,
}

impl Clipping {
    /// Top and bottom 1 %, as in the paper.
    pub const PAPER: Self = Self::Percentile { low: 1.0, high: 99.0 };
}

impl std::fmt::Display for Clipping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.write_str("min/max"),
            Self::Percentile { low, high } => write!(f, "percentiles {low} to {high}"),
            Self::Mse => f.write_str("least squared error"),
            Self::Entropy => f.write_str("least divergence"),
        }
    }
}

/// Where the ranges of activations come from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Ranges {
    /// The encodings that quantization-aware training has left in the network.
    Trained,
    /// The values that the float network takes on images.
    Measured(Clipping),
}

/// How wide activations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Width {
    /// 2 to 8.
    pub bits: u8,
    /// Two's complement?
    pub signed: bool,
}

/// Why a network cannot be calibrated.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// It cannot be run.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// A width or percentile outside its range.
    #[error("{0}")]
    Parameter(String),
    /// An activation is NaN or infinite.
    #[error("tensor `{tensor}` is {value} on image {image}: ranges need finite activations")]
    NotFinite {
        /// The tensor's name.
        tensor: String,
        /// Index of the image.
        image: usize,
        /// What was found.
        value: f32,
    },
    /// Trained encodings were asked for and one is not there.
    #[error("tensor `{tensor}` has no trained encoding; measure the ranges instead")]
    Untrained {
        /// The tensor's name.
        tensor: String,
    },
    /// A trained encoding does not have the width asked for.
    #[error("tensor `{tensor}` was trained as {found}, expected {expected}")]
    Width {
        /// The tensor's name.
        tensor: String,
        /// The encoding's.
        found: String,
        /// The one asked for.
        expected: String,
    },
}

impl std::fmt::Display for Width {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.signed { "int" } else { "uint" }, self.bits)
    }
}

impl Width {
    /// Asymmetric integers of this width.
    pub const fn grid(self) -> Grid {
        Grid { bits: self.bits, signed: self.signed, symmetric: false }
    }
}

/// Gives every integer tensor its encoding, asymmetric. `images` is `N H W C`; with [`Ranges::Trained`] it is not read.
///
/// # Errors
/// [`CalibrateError`] naming the tensor and, where it matters, the image.
pub fn calibrate(network: Network, images: &[u8], width: Width, ranges: Ranges) -> Result<Network, CalibrateError> {
    calibrate_to(network, images, width.grid(), ranges)
}

/// The same for any [`Grid`]. A symmetric one leaves half of its integers unused behind a ReLU: it is for engines that
/// know no zero points.
///
/// # Errors
/// As [`calibrate`].
pub fn calibrate_to(
    mut network: Network,
    images: &[u8],
    grid: Grid,
    ranges: Ranges,
) -> Result<Network, CalibrateError> {
    grid.check("activations")?;
    let mut encodings: Vec<Option<Encoding>> = match ranges {
        Ranges::Trained => trained(&network, Width { bits: grid.bits, signed: grid.signed })?,
        Ranges::Measured(clipping) => {
            let encode = |range: Option<Range>| range.map(|range| grid.encode(range));
            measure::ranges(&network, images, clipping, grid)?.into_iter().map(encode).collect()
        }
    };
    for group in network.fused() {
        let head = &network.nodes[group.head];
        if head.op.keeps_encoding() {
            encodings[group.output] = encodings[head.inputs[0]].clone();
            continue;
        }
        let mut output = encodings[group.output].take();
        if head.op == Op::Softmax {
            output = Some(grid.shares());
        }
        if matches!(head.op, Op::Add | Op::Mul) {
            output.iter_mut().for_each(even_zero_point);
        }
        if let Some(output) = &mut output {
            let inputs: Vec<&Encoding> = head.inputs.iter().filter_map(|&id| encodings[id].as_ref()).collect();
            ties::avoid(&head.op, &inputs, output);
        }
        encodings[group.output] = output;
    }
    for (tensor, encoding) in network.tensors.iter_mut().zip(encodings) {
        tensor.encoding = encoding;
    }
    Ok(network)
}

/// Whether training has left an encoding wherever one is needed, so that [`Ranges::Trained`] can be asked for.
pub fn is_trained(network: &Network) -> bool {
    own_encodings(network).all(|id| network.tensors[id].encoding.is_some())
}

/// Integer tensors whose encoding neither that of what they are made of nor their op says.
fn own_encodings(network: &Network) -> impl Iterator<Item = TensorId> {
    let keeps = |id: &TensorId| {
        network.nodes.iter().any(|node| node.output == *id && (node.op.keeps_encoding() || node.op == Op::Softmax))
    };
    network.integer_tensors().into_iter().filter(move |id| !keeps(id))
}

fn trained(network: &Network, width: Width) -> Result<Vec<Option<Encoding>>, CalibrateError> {
    let mut encodings = vec![None; network.tensors.len()];
    for id in own_encodings(network) {
        let tensor = &network.tensors[id];
        let untrained = || CalibrateError::Untrained { tensor: tensor.name.clone() };
        let encoding = tensor.encoding.as_ref().ok_or_else(untrained)?;
        if encoding.bits != width.bits {
            return Err(CalibrateError::Width {
                tensor: tensor.name.clone(),
                found: Width { bits: encoding.bits, signed: encoding.signed }.to_string(),
                expected: width.to_string(),
            });
        }
        // Signed or not, the values are the same.
        encodings[id] = Some(encoding.clone().with_sign(width.signed));
    }
    Ok(encodings)
}

/// Moves an odd zero point by one, to the side where more steps lie, so that the range moves by one step and what is cut
/// off is the smallest share. The grid stays: every value in both ranges keeps its rounding. With an even zero point ONNX
/// Runtime's QLinearAdd, which adds it before it rounds, rounds exact ties as everyone else does (`docs/arithmetic.md`).
pub fn even_zero_point(encoding: &mut Encoding) {
    let (low, high) = (encoding.qmin(), encoding.qmax());
    let zero_point = &mut encoding.zero_point[0];
    if *zero_point % 2 != 0 {
        *zero_point += if *zero_point - low < high - *zero_point { 1 } else { -1 };
    }
}
