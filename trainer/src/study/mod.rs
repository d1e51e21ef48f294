//! Whether a start matters: the table that the paper leaves open. Enters: unseen networks, starts (hypernetworks, random
//! distributions), bit widths, seeds, images. Leaves: for each of their combinations the accuracy with quantization after 0, 1,
//! 2, ... epochs of quantization-aware training ([`Study::run`]), and the table over all ([`table`]). Refused: what cannot be
//! predicted or trained; a run that diverges is a result, and counts as guessing from then on.
//!
//! All starts have the same images in the same order, the same steps and the same rates.

mod table;
#[cfg(test)]
mod tests;

use crate::fit::{self, Config, FitError, Progress, Row, Stage, Step, evaluate};
use crate::graph::{Architecture, Blueprint, ParameterKind, Task};
use crate::hypernet::{Normalization, Parameters, Setting, Start, StartError};
use crate::nets::Init;
use crate::quant::Simulation;
use crate::run::{Model, settle};
use burn::tensor::Device;
use exporter::data::Dataset;
use exporter::network::{Network, NetworkError, Preprocessing};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::sync::atomic::AtomicBool;
pub use table::table;

/// Batches of 64 images that statistics and ranges come from where nothing was trained.
const BATCHES: usize = 8;

/// Longest gradient of a step. At two bits some are a thousand times longer than others, and one of them is enough to lose a
/// network.
const CLIP: f32 = 5.0;

/// Where weights come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A hypernetwork, asked for the widths at which the network is trained.
    Quantized(&'a Parameters),
    /// A hypernetwork, asked for floats.
    Float(&'a Parameters),
    /// A distribution; BatchNorm begins at scale 1 and shift 0, biases at 0.
    Random(Init),
}

/// One combination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The network's index in its split.
    pub net: u64,
    /// Bit widths.
    pub setting: Setting,
    /// Name of the start.
    pub start: String,
    /// Of the weights, if they are random, and of the order of the images.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Which.
    pub case: Case,
    /// Share of the test images classified rightly with quantization, after 0, 1, 2, ... epochs.
    pub accuracy: Vec<f64>,
    /// Wall time.
    pub seconds: f64,
}

/// What all cases have in common.
#[derive(Clone, Copy, Debug)]
pub struct Study<'a> {
    /// Images to train on.
    pub train: &'a Dataset,
    /// Images to test on.
    pub test: &'a Dataset,
    /// Passes over the training images.
    pub epochs: u64,
    /// Highest learning rate, of SGD with momentum; it falls along a cosine.
    pub rate: f32,
    /// Images of one step.
    pub batch: usize,
    /// Where BatchNorm stands; at two bits on the accumulator whatever is said here, without which they do not learn.
    pub normalization: Normalization,
    /// Where networks run.
    pub device: &'a Device,
}

/// Why a case has no result.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// No start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No training.
    #[error(transparent)]
    Fit(#[from] FitError),
}

impl Study<'_> {
    /// Trains one network from one start.
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn run(&self, case: &Case, architecture: &Architecture, source: Source<'_>) -> Result<Found, StudyError> {
        let began = std::time::Instant::now();
        let network = self.start(case, architecture, source)?;
        let simulation = self.simulation(case.setting);
        let mut model = Model::new(network.clone(), self.device)?;
        let settled = settle(&mut model, self.train, BATCHES, case.seed, Some(simulation));
        let guess = 1.0 / self.test.classes().len() as f64;
        let untrained =
            settled.map_err(FitError::from).and_then(|()| evaluate(&mut model, self.test, Some(simulation)));
        let mut accuracy = vec![match untrained {
            Ok(score) => score.accuracy(),
            Err(FitError::Quant(_)) => guess,
            Err(error) => return Err(error.into()),
        }];
        let config = Config {
            seed: case.seed,
            batch: self.batch,
            float: Stage { epochs: 0, ..Config::default().float },
            quantized: Stage { epochs: self.epochs, rate: self.rate, warmup: 0 },
            simulation,
            clip_norm: Some(CLIP),
            observe_steps: 0,
            ..Config::default()
        };
        let (mut curve, stop) = (Curve::default(), AtomicBool::new(false));
        match fit::train(&config, network, self.device, self.train, Some(self.test), &mut curve, &stop) {
            Ok(_) | Err(FitError::Diverged { .. } | FitError::Quant(_)) => {}
            Err(error) => return Err(error.into()),
        }
        accuracy.extend(curve.0);
        accuracy.resize(self.epochs as usize + 1, guess);
        Ok(Found { case: case.clone(), accuracy, seconds: began.elapsed().as_secs_f64() })
    }

    /// Tensorwise and asymmetric as in the paper.
    fn simulation(&self, Setting { weights, activations }: Setting) -> Simulation {
        let form = match self.normalization {
            Normalization::Folded if weights > 2 => Simulation::tensorwise,
            _ => Simulation::unfolded,
        };
        form(weights, activations).clipped()
    }

    fn start(&self, case: &Case, architecture: &Architecture, source: Source<'_>) -> Result<Network, StudyError> {
        let name = format!("net-{}", case.net);
        let (parameters, setting) = match source {
            Source::Quantized(parameters) => (parameters, case.setting),
            Source::Float(parameters) => (parameters, Setting::FLOAT),
            Source::Random(init) => return self.random(&name, case.seed, architecture, init),
        };
        let (data, seed) = (self.train, case.seed);
        let simulation = None;
        let start = Start { parameters, architecture, setting, simulation, s_max: 10, data, batches: BATCHES, seed };
        Ok(start.network(&name, self.device)?)
    }

    fn random(&self, name: &str, seed: u64, net: &Architecture, init: Init) -> Result<Network, StudyError> {
        let data = self.train;
        let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
        let net = Blueprint::build(net, task).map_err(StartError::from)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut fill = |_: usize, parameter: &crate::graph::Parameter| {
            let [k, c, r, s] = parameter.shape;
            match parameter.kind {
                ParameterKind::Weight => init.draw(parameter.len(), c * r * s, k * r * s, &mut rng),
                ParameterKind::Bias => vec![0.0; parameter.len()],
                ParameterKind::Norm => [vec![1.0; k], vec![0.0; k]].concat(),
            }
        };
        let network = net.to_network(name, Preprocessing::of(data), data.classes().to_vec(), &mut fill)?;
        let mut model = Model::new(network, self.device)?;
        settle(&mut model, data, BATCHES, seed, None).map_err(FitError::from)?;
        Ok(model.to_network(None).map_err(FitError::from)?)
    }
}

/// Test accuracy of each epoch.
#[derive(Default)]
struct Curve(Vec<f64>);

impl Progress for Curve {
    fn step(&mut self, _: &Step) {}

    fn epoch(&mut self, row: &Row) {
        self.0.extend(row.test_accuracy);
    }

    fn note(&mut self, _: &str) {}
}
