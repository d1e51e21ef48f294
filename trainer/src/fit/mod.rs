//! Training runs.
//!
//! *Enters*: a recipe ([`Config`]), a network with first weights, labelled images. *Leaves*: the trained network with the
//! encodings of its activations, the curve, checkpoints. *Refused*: recipes and data that do not fit the network, and
//! training that diverges; the last checkpoint then stays as it was.
//!
//! A run is decided by its recipe: same recipe, same bits, on any number of threads, stopped and resumed or not.

mod config;
mod evaluate;
mod optimizer;
mod progress;
mod run;
mod schedule;
mod state;
#[cfg(test)]
mod tests;

pub use config::{Config, Stage};
pub use evaluate::{Score, evaluate};
use optimizer::Memory;
pub use optimizer::Optimizer;
pub use progress::{Lines, Progress, Step};
pub use run::{Trained, resume, train};
pub use schedule::Schedule;

use crate::quant::QuantError;
use exporter::checkpoint::CheckpointError;
use exporter::network::NetworkError;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One epoch of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// From 1.
    pub epoch: u64,
    /// Whether quantization was in the loop.
    pub quantized: bool,
    /// Learning rate of its last step.
    pub rate: f32,
    /// Mean over its images, as they were augmented.
    pub train_loss: f64,
    /// Share classified rightly, of the same.
    pub train_accuracy: f64,
    /// Share of the test images classified rightly, as deployed; `None` without test images.
    pub test_accuracy: Option<f64>,
    /// Wall time, with evaluation.
    pub seconds: f64,
}

/// Why a run ended badly, or never began.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Figures outside their ranges.
    #[error("training recipe: {0}")]
    Config(String),
    /// Images do not fit the network, or there are too few.
    #[error("data set `{name}`: {reason}")]
    Data {
        /// The data set's name.
        name: String,
        /// Found and expected.
        reason: String,
    },
    /// It is no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Not finite, or without range.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The loss is NaN or infinite.
    #[error("step {step}: the loss is {loss}: training has diverged (a lower learning rate may help)")]
    Diverged {
        /// From 1.
        step: u64,
        /// What it became.
        loss: f64,
    },
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint that no run can be resumed from.
    #[error("{}: holds no training run that could be resumed: {reason}", path.display())]
    NoRun {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The curve cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
