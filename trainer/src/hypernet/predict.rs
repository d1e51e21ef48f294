//! From networks to their parameters. Enters: blueprints, with the widths they will run at. Leaves: a value for every
//! parameter of each, and from the gradients of these that of the hypernetwork. Refused: networks for other classes, with
//! kernels beyond the decoder's grid.

use super::norm_free::Changes;
use super::parameters::{HIDDEN, PART, Parameters, slot};
use super::setting::Setting;
use super::{decode, gnn, vectors};
use crate::graph::{Blueprint, GraphBatch, LayerOp, ParameterKind};

/// Epsilon of the normalization of states.
const EPSILON: f32 = 1e-5;

/// Parameters of one network, as [`crate::graph::Fill`] gives them: for each its values, for BatchNorm scales and then shifts.
pub type Tensors = Vec<Vec<f32>>;

/// Why nothing can be predicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// The classifier has another number of outputs.
    #[error("network of {found} classes; the hypernetwork predicts {expected}")]
    Classes {
        /// Of the network.
        found: usize,
        /// Of the hypernetwork.
        expected: usize,
    },
    /// A kernel does not fit.
    #[error("`{layer}`: kernel of {found}; the hypernetwork predicts up to {expected}")]
    Kernel {
        /// The layer.
        layer: String,
        /// Of the layer.
        found: usize,
        /// Of the hypernetwork.
        expected: usize,
    },
}

/// A prediction with what its gradient reads.
#[derive(Debug)]
pub struct Prediction {
    /// For each network.
    pub tensors: Vec<Tensors>,
    batch: GraphBatch,
    /// Of each network.
    settings: Vec<Setting>,
    round: gnn::Round,
    /// Normalized states, and what each was divided by, inverted.
    normal: Vec<f32>,
    inverse: Vec<f32>,
    /// What the decoders read.
    states: Vec<f32>,
    groups: Vec<decode::Group>,
    vectors: vectors::Vectors,
    /// Of each network, from what was decoded to [`Self::tensors`].
    changes: Vec<Changes>,
}

/// Predicts the parameters of several networks at once; `s_max` is the longest virtual edge.
///
/// # Errors
/// [`PredictError`].
pub fn predict(p: &Parameters, nets: &[(&Blueprint, Setting)], s_max: u8) -> Result<Prediction, PredictError> {
    let batch = GraphBatch::new(nets.iter().map(|(net, _)| &net.graph), s_max);
    let settings: Vec<Setting> = nets.iter().map(|(_, setting)| *setting).collect();
    let mut weights = Vec::new();
    let mut rest = Vec::new();
    for (b, (net, _)) in nets.iter().enumerate() {
        let expected = p.config().classes;
        if net.task.classes != expected {
            return Err(PredictError::Classes { found: net.task.classes, expected });
        }
        for (i, parameter) in net.parameters.iter().enumerate() {
            let layer = &net.layers[parameter.layer];
            if parameter.shape[2] > p.config().kernel {
                let (found, expected) = (parameter.shape[2], p.config().kernel);
                return Err(PredictError::Kernel { layer: layer.name.clone(), found, expected });
            }
            let item = decode::Item {
                net: b,
                parameter: i,
                node: batch.starts[b] + parameter.node,
                shape: parameter.shape,
                classifier: net.graph.nodes[parameter.node].classifier,
                linear: layer.op == LayerOp::Linear,
            };
            match parameter.kind {
                ParameterKind::Weight => weights.push(item),
                kind => rest.push((item, kind)),
            }
        }
    }
    let (states, round) = gnn::forward(p, &batch, &first_states(p, &batch, &settings));
    let (states, normal, inverse) = normalize(p, &states);
    let (groups, of_groups) = decode::forward(p, &states, &weights);
    let (vectors, of_vectors) = vectors::forward(p, &states, rest);
    let mut tensors: Vec<Tensors> = nets.iter().map(|(net, _)| vec![Vec::new(); net.parameters.len()]).collect();
    let items = groups.iter().flat_map(decode::Group::items).chain(vectors.items());
    for (item, values) in items.zip(of_groups.into_iter().flatten().chain(of_vectors)) {
        tensors[item.net][item.parameter] = values;
    }
    let form = p.config().norm_free;
    let changes = nets.iter().zip(&mut tensors).map(|((net, _), tensors)| Changes::apply(net, form, tensors)).collect();
    Ok(Prediction { tensors, batch, settings, round, normal, inverse, states, groups, vectors, changes })
}

impl Prediction {
    /// The gradient of the hypernetwork from those of [`Self::tensors`], in the same form.
    pub fn backward(&self, p: &Parameters, d_tensors: &[Tensors]) -> Parameters {
        let mut grad = Parameters::zeros(p.config()).expect("the form has been checked");
        let mut d_states = vec![0.0; self.states.len()];
        let decoded = |(changes, d): (&Changes, &Tensors)| {
            let mut d = d.clone();
            changes.backward(&mut d);
            d
        };
        let d_decoded: Vec<Tensors>;
        let d_tensors = if self.changes.iter().all(Changes::is_empty) {
            d_tensors
        } else {
            d_decoded = self.changes.iter().zip(d_tensors).map(decoded).collect();
            &d_decoded
        };
        let of = |item: &decode::Item| d_tensors[item.net][item.parameter].as_slice();
        let d_groups: Vec<Vec<&[f32]>> =
            self.groups.iter().map(|group| group.items().iter().map(of).collect()).collect();
        decode::backward(p, &self.groups, &d_groups, &mut grad, &mut d_states);
        let d_vectors: Vec<&[f32]> = self.vectors.items().map(of).collect();
        self.vectors.backward(p, &d_vectors, &mut grad, &mut d_states);
        let d_states = self.normalize_gradient(p, &d_states, &mut grad);
        let d_first = gnn::backward(p, &self.round, &d_states, &mut grad);
        self.embed_gradient(&d_first, &mut grad);
        grad
    }

    /// What the decoders read of one network: a row of [`HIDDEN`] for each node.
    pub fn states(&self, net: usize) -> &[f32] {
        &self.states[self.batch.starts[net] * HIDDEN..self.batch.starts[net + 1] * HIDDEN]
    }

    fn normalize_gradient(&self, p: &Parameters, d_states: &[f32], grad: &mut Parameters) -> Vec<f32> {
        let scale = p.get(slot::LN[0]);
        let [d_scale, d_shift] = grad.pair_mut(slot::LN);
        let mut d_rows = vec![0.0; d_states.len()];
        let rows = d_states.chunks_exact(HIDDEN).zip(self.normal.chunks_exact(HIDDEN)).zip(&self.inverse);
        for (((d, normal), inverse), out) in rows.zip(d_rows.chunks_exact_mut(HIDDEN)) {
            let (mut mean, mut product) = (0.0, 0.0);
            for i in 0..HIDDEN {
                d_scale[i] += d[i] * normal[i];
                d_shift[i] += d[i];
                mean += d[i] * scale[i] / HIDDEN as f32;
                product += d[i] * scale[i] * normal[i] / HIDDEN as f32;
            }
            for i in 0..HIDDEN {
                out[i] = inverse * (d[i] * scale[i] - mean - normal[i] * product);
            }
        }
        d_rows
    }

    fn embed_gradient(&self, d_first: &[f32], grad: &mut Parameters) {
        for (node, d) in d_first.chunks_exact(HIDDEN).enumerate() {
            for (slot, row, range) in rows_of(&self.batch, node) {
                add(&mut grad.get_mut(slot)[row * range.len()..][..range.len()], &d[range]);
            }
        }
        if grad.config().bit_widths {
            for (setting, range) in self.settings.iter().zip(self.batch.starts.windows(2)) {
                for (slot, row) in setting.rows() {
                    for d in d_first[range[0] * HIDDEN..range[1] * HIDDEN].chunks_exact(HIDDEN) {
                        add(&mut grad.get_mut(slot)[row * HIDDEN..][..HIDDEN], d);
                    }
                }
            }
        }
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
}

/// Table, row and columns of every embedding that a node's first state is the sum of.
fn rows_of(batch: &GraphBatch, node: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let tables = [slot::EMBED_CHANNEL, slot::EMBED_CHANNEL, slot::EMBED_SPATIAL, slot::EMBED_SPATIAL];
    let rows = batch.shape_rows[node];
    let parts = (0..4).map(move |i| (tables[i], usize::from(rows[i]), i * PART..(i + 1) * PART));
    std::iter::once((slot::EMBED, usize::from(batch.op_rows[node]), 0..HIDDEN)).chain(parts)
}

fn first_states(p: &Parameters, batch: &GraphBatch, settings: &[Setting]) -> Vec<f32> {
    let mut states = vec![0.0; batch.nodes() * HIDDEN];
    for (node, state) in states.chunks_exact_mut(HIDDEN).enumerate() {
        for (slot, row, range) in rows_of(batch, node) {
            add(&mut state[range.clone()], &p.get(slot)[row * range.len()..][..range.len()]);
        }
    }
    if p.config().bit_widths {
        for (setting, range) in settings.iter().zip(batch.starts.windows(2)) {
            for (slot, row) in setting.rows() {
                for state in states[range[0] * HIDDEN..range[1] * HIDDEN].chunks_exact_mut(HIDDEN) {
                    add(state, &p.get(slot)[row * HIDDEN..][..HIDDEN]);
                }
            }
        }
    }
    states
}

/// Layer normalization: the result, the states before scale and shift, and what they were multiplied with.
fn normalize(p: &Parameters, states: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (mut normal, mut inverse) = (states.to_vec(), Vec::new());
    for row in normal.chunks_exact_mut(HIDDEN) {
        let mean = row.iter().sum::<f32>() / HIDDEN as f32;
        row.iter_mut().for_each(|v| *v -= mean);
        let variance = row.iter().map(|v| v * v).sum::<f32>() / HIDDEN as f32;
        let factor = 1.0 / (variance + EPSILON).sqrt();
        row.iter_mut().for_each(|v| *v *= factor);
        inverse.push(factor);
    }
    let [scale, shift] = slot::LN.map(|slot| p.get(slot));
    let rows = normal.chunks_exact(HIDDEN);
    let states = rows.flat_map(|row| (0..HIDDEN).map(move |i| row[i] * scale[i] + shift[i])).collect();
    (states, normal, inverse)
}
