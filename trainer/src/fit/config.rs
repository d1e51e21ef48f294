//! What a training run does. Enters: figures. Leaves: a checked recipe. Refused: figures outside their ranges, all of
//! them named.

use super::{FitError, Optimizer, Schedule};
use crate::data::Augment;
use crate::quant::Simulation;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Passes over the training images; 0 leaves the stage out.
    pub epochs: u64,
    /// Highest learning rate; positive.
    pub rate: f32,
    /// Steps in which the rate rises from 0 to its highest.
    pub warmup: u64,
}

/// A recipe: floats first, then with quantization in the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Everything random follows from it.
    pub seed: u64,
    /// Images of one step; an incomplete last batch of an epoch is left out.
    pub batch: usize,
    /// Training in floats.
    pub float: Stage,
    /// Training with quantization.
    pub quantized: Stage,
    /// What is simulated in the second stage.
    pub simulation: Simulation,
    /// How the learning rate falls within a stage.
    pub schedule: Schedule,
    /// How gradients become steps.
    pub optimizer: Optimizer,
    /// Added to the gradient of weights (not of biases and BatchNorm), times the weight.
    pub weight_decay: f32,
    /// Largest length of the gradient of all parameters together; longer ones are shortened to it.
    #[serde(default)]
    pub clip_norm: Option<f32>,
    /// Share of the target that is spread over all classes, `0..1`.
    pub label_smoothing: f32,
    /// Random changes of the training images.
    pub augment: Augment,
    /// Steps of the second stage that only collect ranges of activations; with 0 they, and BatchNorm's statistics, come from eight
    /// batches before the first step.
    pub observe_steps: u64,
    /// From this share of the second stage on, BatchNorm uses its running statistics and ranges stand still, so that what
    /// is trained is what folding will give; `0..=1`.
    pub freeze_at: f32,
    /// Share with which a batch enters the running statistics, in `0..=1`.
    pub norm_momentum: f32,
    /// Share with which a batch enters the ranges, in `0..=1`.
    pub range_momentum: f32,
    /// Where to write checkpoints; the curve goes beside it as `.csv`.
    #[serde(skip)]
    pub checkpoint: Option<PathBuf>,
    /// Steps between checkpoints; there is one at the end of each epoch too.
    pub checkpoint_every: u64,
}

impl Default for Config {
    /// 8-bit, tensorwise, SGD with momentum and a cosine; 25 epochs in floats and 8 quantized.
    fn default() -> Self {
        Self {
            seed: 1,
            batch: 64,
            float: Stage { epochs: 25, rate: 0.1, warmup: 400 },
            quantized: Stage { epochs: 8, rate: 0.01, warmup: 0 },
            simulation: Simulation::tensorwise(8, 8),
            schedule: Schedule::Cosine,
            optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: true },
            weight_decay: 5e-4,
            clip_norm: None,
            label_smoothing: 0.0,
            augment: Augment::CROP_FLIP,
            observe_steps: 100,
            freeze_at: 0.85,
            norm_momentum: 0.1,
            range_momentum: 0.01,
            checkpoint: None,
            checkpoint_every: 500,
        }
    }
}

impl Config {
    /// Whether every figure lies in its range.
    ///
    /// # Errors
    /// [`FitError::Config`] with all that do not.
    pub fn check(&self) -> Result<(), FitError> {
        let mut faults = Vec::new();
        let mut need = |holds: bool, text: String| {
            if !holds {
                faults.push(text);
            }
        };
        need(self.batch > 0, "batch: found 0, expected at least 1".into());
        need(
            self.float.epochs + self.quantized.epochs > 0,
            "epochs: found 0 in both stages, expected at least 1".into(),
        );
        need(self.checkpoint_every > 0, "checkpoint_every: found 0, expected at least 1".into());
        for (stage, name) in [(self.float, "float"), (self.quantized, "quantized")] {
            let holds = stage.rate > 0.0 && stage.rate.is_finite();
            need(holds, format!("{name}.rate: found {}, expected a positive number", stage.rate));
        }
        for (value, name) in [
            (self.freeze_at, "freeze_at"),
            (self.norm_momentum, "norm_momentum"),
            (self.range_momentum, "range_momentum"),
            (self.label_smoothing, "label_smoothing"),
        ] {
            need((0.0..=1.0).contains(&value), format!("{name}: found {value}, expected 0 to 1"));
        }
        if let Some(clip) = self.clip_norm {
            need(clip > 0.0 && clip.is_finite(), format!("clip_norm: found {clip}, expected a positive number"));
        }
        let decay = self.weight_decay;
        need(decay >= 0.0 && decay.is_finite(), format!("weight_decay: found {decay}, expected 0 or more"));
        for (bits, name) in
            [(self.simulation.weights.bits, "weights"), (self.simulation.activations.bits, "activations")]
        {
            need((2..=8).contains(&bits), format!("{name}: found {bits} bits, expected 2 to 8"));
        }
        let zoom = self.augment.zoom;
        need((0.0..1.0).contains(&zoom), format!("augment.zoom: found {zoom}, expected 0 to below 1"));
        if faults.is_empty() { Ok(()) } else { Err(FitError::Config(faults.join("; "))) }
    }
}
