//! One step of the optimizer. Enters: parameters, their gradient, the memory. Leaves: both changed. Refuses nothing: the caller
//! has looked for values that are not finite.

use super::{adam, muon};
use crate::hypernet::Parameters;
use serde::{Deserialize, Serialize};

/// How a gradient becomes a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Adam for all parameters, as in the paper.
    #[default]
    Adam,
    /// Muon for the matrices of layers; Adam for embeddings, biases and the normalization.
    Muon,
}

impl Optimizer {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub(super) fn is_adam(&self) -> bool {
        *self == Self::Adam
    }

    /// One step, the `steps`th with this memory, counted from 1. The gradient is multiplied with `factor` first; the average
    /// keeps a share `keep` of what it was.
    pub(super) fn step(
        self,
        p: &mut Parameters,
        [first, second, average]: &mut [Parameters; 3],
        grad: &Parameters,
        [factor, rate, decay, keep]: [f32; 4],
        steps: u64,
    ) {
        for entry in p.entries().to_vec() {
            let at = entry.range.clone();
            let [p, first] = [&mut *p, &mut *first].map(|of| &mut of.values_mut()[at.clone()]);
            let (grad, figures) = (&grad.values()[at.clone()], [factor, rate, decay]);
            match (self, entry.layer()) {
                (Self::Muon, Some(columns)) => muon::update([p, first], grad, columns, figures),
                _ => adam::update([p, first, &mut second.values_mut()[at]], grad, figures, steps),
            }
        }
        for (average, p) in average.values_mut().iter_mut().zip(p.values()) {
            *average += (1.0 - keep) * (*p - *average);
        }
    }
}
