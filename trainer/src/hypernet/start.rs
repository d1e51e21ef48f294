//! From a prediction to a network that can be trained on. Enters: a hypernetwork, an architecture, bit widths, training
//! images. Leaves: a [`Network`] with predicted weights and running statistics, and, if it is to be quantized as its
//! hypernetwork was trained ([`deployed`]), the encodings of its activations. Refused: what cannot be predicted, images of
//! another size.
//!
//! Two things keep predicted weights from being learned from, and are mended here. Tensors wider than the hypernetwork predicts
//! repeat their channels, and equal channels would learn the same for ever: a little noise sets the copies apart. And where
//! BatchNorm divides out how long weights are, the hypernetwork makes them of any length, in training ever longer (up to 43 times what
//! random ones have); a step turns weights by its length over theirs, so that long ones stand still. They get the length that
//! random ones have, which leaves the network the same. BatchNorm's running statistics are the plain mean over some batches.

use super::decode;
use super::parameters::{CHANNELS, Parameters, uniform};
use super::{FileError, Normalization, PredictError, Ranges, Saved, Setting, predict};
use crate::graph::{Architecture, Blueprint, BuildError, ParameterKind, Task};
use crate::quant::{QuantError, Simulation};
use crate::run::{BATCH, Model, settle};
use burn::tensor::Device;
use exporter::calibrate::Clipping;
use exporter::data::Dataset;
use exporter::network::{Network, NetworkError, Preprocessing};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Deserialize;
use std::path::Path;

/// Noise on repeated channels, as a share of the tensor's root mean square.
const NOISE: f32 = 0.02;

/// Why there is no start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The arguments make no network.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It cannot be predicted.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// The prediction makes no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Statistics are not finite.
    #[error(transparent)]
    Quant(#[from] QuantError),
}

/// What a start is made of.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The hypernetwork.
    pub parameters: &'a Parameters,
    /// The network's arguments.
    pub architecture: &'a Architecture,
    /// What it will run at.
    pub setting: Setting,
    /// How statistics and encodings are found; in floats if `None`.
    pub simulation: Option<Simulation>,
    /// Longest virtual edge.
    pub s_max: u8,
    /// Training images: their size, classes and pixels decide task, labels and statistics.
    pub data: &'a Dataset,
    /// Batches of [`Self::BATCH`] images that statistics are taken from.
    pub batches: usize,
    /// Of the noise and of the choice of images.
    pub seed: u64,
}

impl Start<'_> {
    /// Images of one of the batches that statistics are taken from.
    pub const BATCH: usize = BATCH;

    /// The network, called `name`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn network(&self, name: &str, device: &Device) -> Result<Network, StartError> {
        let data = self.data;
        let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
        let net = Blueprint::build(self.architecture, task)?;
        let prediction = predict(self.parameters, &[(&net, self.setting)], self.s_max)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let free = net.free_lengths();
        let mut fill = |i: usize, parameter: &crate::graph::Parameter| {
            let mut values = prediction.tensors[0][i].clone();
            if free[i] {
                set_length(&mut values, decode::scale(parameter.shape, false));
            }
            if parameter.kind == ParameterKind::Weight {
                set_apart(&mut values, parameter.shape, &mut rng);
            }
            values
        };
        let network = net.to_network(name, Preprocessing::of(data), data.classes().to_vec(), &mut fill)?;
        let mut model = Model::new(network, device)?;
        settle(&mut model, data, self.batches, self.seed, self.simulation)?;
        Ok(model.to_network(self.simulation.as_ref())?)
    }
}

/// How networks of a hypernetwork are quantized at `setting`: as it was trained by the recipe in its file. `None` in floats.
///
/// # Errors
/// [`FileError::Format`], naming `path`: no recipe, or one that quantizes nothing.
pub fn deployed(saved: &Saved, setting: Setting, path: &Path) -> Result<Option<Simulation>, FileError> {
    /// What a [`Recipe`](super::train::Recipe) says about it.
    #[derive(Deserialize)]
    struct Quantized {
        #[serde(default)]
        normalization: Normalization,
        #[serde(default = "absolute")]
        ranges: Ranges,
    }
    fn absolute() -> Ranges {
        Ranges::ABSOLUTE
    }
    if setting.is_float() {
        return Ok(None);
    }
    let Quantized { normalization, ranges } = Quantized::deserialize(&saved.state["recipe"])
        .map_err(|e| FileError::Format { path: path.into(), reason: format!("recipe of the training: {e}") })?;
    let Setting { weights, activations } = setting;
    if weights == 0 || activations == 0 {
        let reason = format!("{setting}: expected widths of both weights and activations");
        return Err(FileError::Format { path: path.into(), reason });
    }
    let mut simulation = match normalization {
        Normalization::Folded => Simulation::tensorwise(weights, activations),
        Normalization::Accumulator => Simulation::unfolded(weights, activations),
    };
    let cut = 100.0 * f64::from(ranges.cut(weights, ranges.weights));
    if cut > 0.0 {
        simulation.weights.clipping = Clipping::Percentile { low: cut, high: 100.0 - cut };
    }
    simulation.cut = ranges.cut(activations, ranges.activations);
    simulation.both_signs = ranges.both_signs && activations <= ranges.up_to;
    Ok(Some(simulation))
}

/// Gives weights this root mean square; zeros stay.
fn set_length(weight: &mut [f32], wanted: f32) {
    let found = root_mean_square(weight);
    if found > 0.0 {
        weight.iter_mut().for_each(|w| *w *= wanted / found);
    }
}

fn root_mean_square(values: &[f32]) -> f32 {
    (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt()
}

/// Noise on the channels that repeat others.
fn set_apart(weight: &mut [f32], [k, c, r, s]: [usize; 4], rng: &mut ChaCha8Rng) {
    if k <= CHANNELS && c <= CHANNELS {
        return;
    }
    // A uniform distribution as wide as this has a deviation of 1.
    let width = 12f32.sqrt() * NOISE * root_mean_square(weight);
    for (i, w) in weight.iter_mut().enumerate() {
        if i / (c * r * s) >= CHANNELS || i / (r * s) % c >= CHANNELS {
            *w += width * (uniform(rng) - 0.5);
        }
    }
}
