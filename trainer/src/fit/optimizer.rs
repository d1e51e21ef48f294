//! From gradients to new parameters. Enters: a model, its gradients, a rate. Leaves: the model changed, and the
//! optimizer's own memory. Refuses nothing: gradients that are not finite show in the next loss.

use crate::run::{Model, Role};
use burn::tensor::{Gradients, Tensor};
use serde::{Deserialize, Serialize};

/// How gradients become steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// `v = momentum * v + g; w -= rate * v`, with Nesterov `w -= rate * (g + momentum * v)`.
    Sgd {
        /// `0..1`.
        momentum: f32,
        /// Look ahead.
        nesterov: bool,
    },
    /// Adam with the usual corrections of its start.
    Adam {
        /// Decay of the mean of gradients, usually 0.9.
        beta1: f32,
        /// Decay of the mean of their squares, usually 0.999.
        beta2: f32,
        /// Usually 1e-8.
        epsilon: f32,
    },
}

/// What the optimizer remembers of each parameter: nothing yet, or one tensor (SGD) or two (Adam).
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub slots: Vec<Vec<Tensor<1>>>,
    /// Steps taken since the memory was empty.
    pub steps: u64,
}

impl Memory {
    pub(super) fn new(parameters: usize) -> Self {
        Self { slots: vec![Vec::new(); parameters], steps: 0 }
    }
}

impl Optimizer {
    /// One step on all parameters, with gradients no longer than `clip` together.
    pub(super) fn step(
        &self,
        model: &mut Model,
        memory: &mut Memory,
        grads: &mut Gradients,
        rate: f32,
        decay: f32,
        clip: Option<f32>,
    ) {
        memory.steps += 1;
        let found: Vec<_> = model.parameters().iter().map(|parameter| parameter.value.grad_remove(grads)).collect();
        let shrink = clip.map(|clip| (clip / norm(&found)).min(1.0)).filter(|&shrink| shrink < 1.0);
        for (i, g) in found.into_iter().enumerate() {
            let Some(mut g) = g else { continue };
            if let Some(shrink) = shrink {
                g = g * shrink;
            }
            let parameter = &model.parameters()[i];
            let w = parameter.value.clone().inner();
            if parameter.role == Role::Weight && decay > 0.0 {
                g = g + w.clone() * decay;
            }
            let slots = &mut memory.slots[i];
            let change = match *self {
                Self::Sgd { momentum, nesterov } => {
                    let v = match slots.pop() {
                        Some(v) => v * momentum + g.clone(),
                        None => g.clone(),
                    };
                    slots.push(v.clone());
                    if nesterov { g + v * momentum } else { v }
                }
                Self::Adam { beta1, beta2, epsilon } => {
                    let blend = |old: Option<Tensor<1>>, new: Tensor<1>, beta: f32| match old {
                        Some(old) => old * beta + new * (1.0 - beta),
                        None => new * (1.0 - beta),
                    };
                    let square = blend(slots.pop(), g.clone() * g.clone(), beta2);
                    let mean = blend(slots.pop(), g, beta1);
                    *slots = vec![mean.clone(), square.clone()];
                    let correct = |beta: f32| (1.0 - f64::from(beta).powf(memory.steps as f64)) as f32;
                    (mean / correct(beta1)) / ((square / correct(beta2)).sqrt() + epsilon)
                }
            };
            model.set_parameter(i, w - change * rate);
        }
    }
}

/// Length of all gradients together.
fn norm(gradients: &[Option<Tensor<1>>]) -> f32 {
    let squares = gradients.iter().flatten().map(|g| f64::from((g.clone() * g.clone()).sum().into_scalar::<f32>()));
    squares.sum::<f64>().sqrt() as f32
}
