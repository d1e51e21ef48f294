//! Running statistics and ranges from some batches. Enters: a model whose weights were not trained here, images. Leaves: the
//! model with BatchNorm's statistics and its activations' ranges, each the plain mean over the batches. Refused: activations
//! that are not finite.
//!
//! With a simulation there are two rounds: the first finds ranges, and the second, with activations quantized to them, the
//! statistics and ranges that layers have behind rounded ones.

use super::{Model, Momentum, Pass};
use crate::data::{order, plain};
use crate::ops::Statistics;
use crate::quant::{QuantError, Simulation};
use burn::tensor::{Tensor, TensorData};
use exporter::data::Dataset;

/// Images of one batch.
pub(crate) const BATCH: usize = 64;

/// Most batches that the first of two rounds sees. The second replaces what it finds, and needs only ranges to round to until then.
const FIRST: usize = 2;

/// Shows `model` so many batches of 64 images, or one of all if there are fewer, drawn by `seed`; with quantized weights if
/// there is a simulation.
///
/// # Errors
/// [`QuantError`].
pub fn settle(
    model: &mut Model,
    data: &Dataset,
    batches: usize,
    seed: u64,
    simulation: Option<Simulation>,
) -> Result<(), QuantError> {
    let chosen = order(data.len(), seed, 0);
    let rounds: &[_] =
        if simulation.is_some() { &[(false, FIRST.min(batches)), (true, batches)] } else { &[(false, batches)] };
    for &(activations, batches) in rounds {
        for (i, indices) in chosen.chunks_exact(BATCH.min(chosen.len())).take(batches).enumerate() {
            let batch = data.subset(indices.iter().copied());
            let values = plain(&batch, 0..batch.len(), &model.architecture().preprocessing);
            let shape = [batch.len(), 3, data.height(), data.width()];
            let share = 1.0 / (i + 1) as f32;
            let pass = Pass {
                statistics: Statistics::Batch,
                simulation,
                activations,
                observe: Some(Momentum { statistics: share, ranges: share }),
            };
            model.forward(Tensor::from_data(TensorData::new(values, shape), model.device()), &pass, false)?;
        }
    }
    Ok(())
}
