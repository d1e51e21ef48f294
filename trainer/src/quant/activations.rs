//! Ranges of activations while training runs. Enters: the smallest and largest value of each batch. Leaves: an
//! exponential moving average of both, and the encodings that follow. Refused: values that are not finite.

use super::{QuantError, Simulation};
use crate::ops::both_signs;
use exporter::calibrate::{Width, even_zero_point};
use exporter::network::{Encoding, Network, Op, TensorId};

/// The ranges of all tensors that have one of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    /// For each tensor of the network: smallest and largest.
    ranges: Vec<Option<[f32; 2]>>,
    /// Batches seen.
    seen: u64,
}

impl Ranges {
    /// No range for any of `tensors` tensors.
    pub fn new(tensors: usize) -> Self {
        Self { ranges: vec![None; tensors], seen: 0 }
    }

    /// From what [`Self::parts`] gave.
    pub fn from_parts(ranges: Vec<Option<[f32; 2]>>, seen: u64) -> Self {
        Self { ranges, seen }
    }

    /// The range of each tensor and the number of batches seen.
    pub fn parts(&self) -> (&[Option<[f32; 2]>], u64) {
        (&self.ranges, self.seen)
    }

    /// Announces a batch: the first `1 / momentum` batches are averaged plainly, so that the start leaves no trace.
    pub(crate) fn begin_batch(&mut self) {
        self.seen += 1;
    }

    /// Takes in the range of a tensor in this batch.
    pub(crate) fn observe(
        &mut self,
        id: TensorId,
        found: [f32; 2],
        momentum: f32,
        network: &Network,
    ) -> Result<(), QuantError> {
        if !found.iter().all(|v| v.is_finite()) {
            return Err(QuantError::NotFinite { name: network.tensors[id].name.clone() });
        }
        let share = momentum.max(1.0 / self.seen.max(1) as f32);
        let range = self.ranges[id].get_or_insert(found);
        for (old, new) in range.iter_mut().zip(found) {
            *old += (new - *old) * share;
        }
        Ok(())
    }

    /// The encoding of a tensor that `op` writes.
    pub(crate) fn encoding(
        &self,
        id: TensorId,
        op: &Op,
        simulation: &Simulation,
        network: &Network,
    ) -> Result<Encoding, QuantError> {
        let width = simulation.activations;
        if *op == Op::Softmax {
            return Ok(width.grid().shares());
        }
        let Some([min, max]) = self.ranges[id] else {
            return Err(QuantError::NoRange { name: network.tensors[id].name.clone() });
        };
        let levels = ((1u32 << width.bits) - 1) as f32;
        let range = [min.min(0.0), max.max(0.0)];
        let [min, max] = if simulation.both_signs { both_signs(range, levels) } else { range };
        let mut encoding = Encoding::asymmetric(width.bits, width.signed, min, max);
        if matches!(op, Op::Add | Op::Mul) {
            even_zero_point(&mut encoding);
        }
        Ok(encoding)
    }
}

/// The encoding of the network's input: exactly what preprocessing makes of the pixels 0 to 255.
pub fn input_encoding(network: &Network, width: Width) -> Encoding {
    let channels = 0..network.tensors[network.input].shape.c;
    let values = channels.flat_map(|c| [0, 255].map(|pixel| network.preprocessing.value(c, pixel)));
    let [min, max] = values.fold([f32::INFINITY, f32::NEG_INFINITY], |[min, max], v| [min.min(v), max.max(v)]);
    Encoding::asymmetric(width.bits, width.signed, min, max)
}
