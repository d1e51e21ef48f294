//! Accuracy of a model as deployed. Enters: a model and labelled images. Leaves: how many it classifies rightly, and the
//! mean loss. Refused: activations without ranges, when they are to be quantized.

use super::FitError;
use crate::data::plain;
use crate::quant::Simulation;
use crate::run::{Model, Pass};
use burn::tensor::{Tensor, TensorData};
use exporter::data::Dataset;

/// Images of one batch.
const BATCH: usize = 200;

/// What a model made of labelled images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Images.
    pub images: usize,
    /// Of them, classified rightly.
    pub right: usize,
    /// Mean cross entropy, in nats.
    pub loss: f64,
}

impl Score {
    /// Share classified rightly.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }
}

/// Runs a model over a data set with running statistics, in floats or quantized.
///
/// # Errors
/// [`FitError`].
pub fn evaluate(model: &mut Model, data: &Dataset, simulation: Option<Simulation>) -> Result<Score, FitError> {
    let preprocessing = model.architecture().preprocessing.clone();
    let mut score = Score { images: data.len(), right: 0, loss: 0.0 };
    for start in (0..data.len()).step_by(BATCH) {
        let range = start..(start + BATCH).min(data.len());
        let labels = &data.labels()[range.clone()];
        let shape = [range.len(), 3, data.height(), data.width()];
        let x = Tensor::from_data(TensorData::new(plain(data, range, &preprocessing), shape), model.device());
        let logits = model.forward(x, &Pass::deployed(simulation), false)?;
        let (right, loss) = tally(&logits.into_data().try_to_vec::<f32>().expect("logits are f32"), labels);
        score.right += right;
        score.loss += loss;
    }
    score.loss /= data.len().max(1) as f64;
    Ok(score)
}

/// How many rows of logits are largest at their label, and the sum of their cross entropies.
pub(super) fn tally(logits: &[f32], labels: &[u16]) -> (usize, f64) {
    let classes = logits.len() / labels.len().max(1);
    let mut right = 0;
    let mut loss = 0.0;
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let label = usize::from(label);
        // The first of the largest, as the runtime decides.
        let best = (1..classes).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        right += usize::from(best == label);
        let top = f64::from(row[best]);
        let sum: f64 = row.iter().map(|&v| (f64::from(v) - top).exp()).sum();
        loss += sum.ln() + top - f64::from(row[label]);
    }
    (right, loss)
}
