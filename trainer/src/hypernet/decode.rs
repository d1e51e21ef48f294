//! Weights of convolutions and linear layers from node states. Enters: states, and which parameters they stand for. Leaves:
//! tensors, and from their gradients those of the states and of the decoder. Refuses nothing.
//!
//! Parameters whose predicted blocks have one extent are decoded together, and only the rows of the first and last layer
//! that the block needs are computed: `kernel x kernel` of the grid's top left, `outputs x inputs` of the channels. The
//! block is then repeated along both channel axes to the shape wanted, and scaled by the fan-in of that shape.

use super::linear;
use super::parameters::{CHANNELS, DECODER, HIDDEN, Parameters, slot};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// A parameter to predict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Index into the meta-batch.
    pub net: usize,
    /// Index into the network's parameters.
    pub parameter: usize,
    /// Its node, in the union of all graphs.
    pub node: usize,
    /// `K C/groups R S`, or `C 1 1 1`.
    pub shape: [usize; 4],
    /// Whether it belongs to the last linear layer.
    pub classifier: bool,
    /// Whether it belongs to a linear layer.
    pub linear: bool,
}

/// Extent of a block: outputs, inputs, kernel, and whether it is the classifier's.
type Extent = (usize, usize, usize, bool);

/// Parameters decoded together, with what their gradient reads.
#[derive(Debug)]
pub(super) struct Group {
    extent: Extent,
    items: Vec<Item>,
    states: Vec<f32>,
    /// Behind each layer; rows are `(item, y, x)`.
    hidden: [Vec<f32>; 2],
    /// The classifier's block behind its ReLU, `inputs x outputs` for each item.
    class: Vec<f32>,
}

/// Gradients of one group: rows of the layers that it used.
struct Gradient {
    states: Vec<f32>,
    fc: [Vec<f32>; 2],
    conv0: [Vec<f32>; 2],
    conv1: [Vec<f32>; 2],
    class: [Vec<f32>; 2],
}

/// Decodes all `items`; the tensors are in the order of the items of each group.
pub(super) fn forward(p: &Parameters, states: &[f32], items: &[Item]) -> (Vec<Group>, Vec<Vec<Vec<f32>>>) {
    let mut extents: BTreeMap<Extent, Vec<Item>> = BTreeMap::new();
    for item in items {
        let [k, c, r, _] = item.shape;
        // The classifier's layer mixes all outputs of the block.
        let outputs = if item.classifier { CHANNELS } else { k.min(CHANNELS) };
        extents.entry((outputs, c.min(CHANNELS), r, item.classifier)).or_default().push(*item);
    }
    let extents: Vec<_> = extents.into_iter().collect();
    extents.into_par_iter().map(|(extent, items)| Group::decode(p, states, extent, items)).unzip()
}

/// Adds to the gradients of parameters and states. `d_tensors` is as [`forward`] returned the tensors.
pub(super) fn backward(
    p: &Parameters,
    groups: &[Group],
    d_tensors: &[Vec<&[f32]>],
    grad: &mut Parameters,
    d_states: &mut [f32],
) {
    let found: Vec<Gradient> = groups.par_iter().zip(d_tensors).map(|(group, d)| group.gradient(p, d)).collect();
    for (group, found) in groups.iter().zip(found) {
        for (item, d) in group.items.iter().zip(found.states.chunks_exact(HIDDEN)) {
            add(&mut d_states[item.node * HIDDEN..][..HIDDEN], d);
        }
        let fc = group.fc_rows(p);
        let conv1 = group.conv1_rows();
        for (slots, rows, found) in [(slot::FC, &fc, &found.fc), (slot::CONV1, &conv1, &found.conv1)] {
            let [w, b] = grad.pair_mut(slots);
            let columns = w.len() / b.len();
            for (i, &row) in rows.iter().enumerate() {
                add(&mut w[row * columns..][..columns], &found[0][i * columns..][..columns]);
                b[row] += found[1][i];
            }
        }
        for (slots, found) in [(slot::CONV0, &found.conv0), (slot::CLASS, &found.class)] {
            let [w, b] = grad.pair_mut(slots);
            add(w, &found[0]);
            add(b, &found[1]);
        }
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
}

/// Some rows of a layer, weights and biases.
fn gather(p: &Parameters, [w, b]: [usize; 2], rows: &[usize]) -> [Vec<f32>; 2] {
    let (w, b) = (p.get(w), p.get(b));
    let columns = w.len() / b.len();
    let mut weights = Vec::with_capacity(rows.len() * columns);
    rows.iter().for_each(|&row| weights.extend_from_slice(&w[row * columns..][..columns]));
    [weights, rows.iter().map(|&row| b[row]).collect()]
}

/// The root mean square of weights with which a layer keeps the variance of what it reads, `sqrt(beta / fan_in)` with beta 1
/// for depthwise convolutions and 2 for all else: what a block is multiplied with.
pub(super) fn scale([_, c, r, s]: [usize; 4], linear: bool) -> f32 {
    let beta = if c == 1 && !linear { 1.0 } else { 2.0 };
    (beta / (c * r * s) as f32).sqrt()
}

impl Group {
    /// Rows of the first layer, in the order (y, x, channel).
    fn fc_rows(&self, p: &Parameters) -> Vec<usize> {
        let (grid, k) = (p.config().kernel, self.extent.2);
        let row = |y: usize, x: usize, c: usize| (c * grid + y) * grid + x;
        (0..k).flat_map(|y| (0..k).flat_map(move |x| (0..DECODER[0]).map(move |c| row(y, x, c)))).collect()
    }

    /// Rows of the last layer, in the order (output, input).
    fn conv1_rows(&self) -> Vec<usize> {
        let (outputs, inputs, ..) = self.extent;
        (0..outputs).flat_map(|o| (0..inputs).map(move |i| o * CHANNELS + i)).collect()
    }

    fn decode(p: &Parameters, states: &[f32], extent: Extent, items: Vec<Item>) -> (Self, Vec<Vec<f32>>) {
        let (outputs, inputs, kernel, classifier) = extent;
        let states = items.iter().flat_map(|item| &states[item.node * HIDDEN..][..HIDDEN]).copied().collect();
        let mut group = Self { extent, items, states, hidden: [Vec::new(), Vec::new()], class: Vec::new() };
        let [w, b] = gather(p, slot::FC, &group.fc_rows(p));
        group.hidden[0] = linear::forward(&group.states, &w, &b);
        linear::relu(&mut group.hidden[0]);
        group.hidden[1] = linear::forward(&group.hidden[0], p.get(slot::CONV0[0]), p.get(slot::CONV0[1]));
        linear::relu(&mut group.hidden[1]);
        let [w, b] = gather(p, slot::CONV1, &group.conv1_rows());
        let blocks = linear::forward(&group.hidden[1], &w, &b);
        let length = kernel * kernel * outputs * inputs;
        if !classifier {
            let tensors =
                group.items.iter().zip(blocks.chunks_exact(length)).map(|(item, block)| group.tile(item, block));
            let tensors = tensors.collect();
            return (group, tensors);
        }
        // Along the outputs, for each input separately.
        group.class = blocks.chunks_exact(length).flat_map(|block| transposed(block, inputs)).collect();
        linear::relu(&mut group.class);
        let logits = linear::forward(&group.class, p.get(slot::CLASS[0]), p.get(slot::CLASS[1]));
        let classes = p.config().classes;
        let tensor = |(item, rows): (&Item, &[f32])| {
            let (columns, scale) = (item.shape[1], scale(item.shape, item.linear));
            let at = |i: usize| scale * rows[i % columns % CHANNELS * classes + i / columns];
            (0..classes * columns).map(at).collect()
        };
        let tensors = group.items.iter().zip(logits.chunks_exact(inputs * classes)).map(tensor).collect();
        (group, tensors)
    }

    /// A block `(y, x, output, input)` as a tensor `K C R S`.
    fn tile(&self, item: &Item, block: &[f32]) -> Vec<f32> {
        let (outputs, inputs, kernel, _) = self.extent;
        let ([k, c, ..], area, scale) = (item.shape, kernel * kernel, scale(item.shape, item.linear));
        let mut tensor = vec![0.0; k * c * area];
        for (o, row) in tensor.chunks_exact_mut(c * area).enumerate() {
            for (i, taps) in row.chunks_exact_mut(area).enumerate() {
                let at = o % CHANNELS * inputs + i % CHANNELS;
                for (tap, out) in taps.iter_mut().enumerate() {
                    *out = scale * block[tap * outputs * inputs + at];
                }
            }
        }
        tensor
    }

    /// The transpose of [`Self::tile`].
    fn untile(&self, item: &Item, d_tensor: &[f32], d_block: &mut [f32]) {
        let (outputs, inputs, kernel, _) = self.extent;
        let ([_, c, ..], area, scale) = (item.shape, kernel * kernel, scale(item.shape, item.linear));
        for (o, row) in d_tensor.chunks_exact(c * area).enumerate() {
            for (i, taps) in row.chunks_exact(area).enumerate() {
                let at = o % CHANNELS * inputs + i % CHANNELS;
                for (tap, d) in taps.iter().enumerate() {
                    d_block[tap * outputs * inputs + at] += scale * d;
                }
            }
        }
    }

    fn gradient(&self, p: &Parameters, d_tensors: &[&[f32]]) -> Gradient {
        let (outputs, inputs, kernel, classifier) = self.extent;
        let length = kernel * kernel * outputs * inputs;
        let mut d_blocks = vec![0.0; self.items.len() * length];
        let mut class = [slot::CLASS[0], slot::CLASS[1]].map(|slot| vec![0.0; p.get(slot).len()]);
        if classifier {
            let classes = p.config().classes;
            let mut d_logits = vec![0.0; self.items.len() * inputs * classes];
            for ((item, d), rows) in self.items.iter().zip(d_tensors).zip(d_logits.chunks_exact_mut(inputs * classes)) {
                let (columns, scale) = (item.shape[1], scale(item.shape, item.linear));
                for (i, d) in d.iter().enumerate() {
                    rows[i % columns % CHANNELS * classes + i / columns] += scale * d;
                }
            }
            let mut d_class = vec![0.0; self.class.len()];
            linear::input_gradient(&d_logits, p.get(slot::CLASS[0]), classes, &mut d_class);
            linear::relu_gradient(&self.class, &mut d_class);
            let [w, b] = &mut class;
            linear::parameter_gradient(&self.class, &d_logits, [w, b]);
            for (d_block, d) in d_blocks.chunks_exact_mut(length).zip(d_class.chunks_exact(length)) {
                d_block.copy_from_slice(&transposed(d, outputs));
            }
        } else {
            for ((item, d), d_block) in self.items.iter().zip(d_tensors).zip(d_blocks.chunks_exact_mut(length)) {
                self.untile(item, d, d_block);
            }
        }
        let [d0, d1] = DECODER;
        let (fc, conv1) = (self.fc_rows(p), self.conv1_rows());
        let [conv1_w, _] = gather(p, slot::CONV1, &conv1);
        let mut found = Gradient {
            states: vec![0.0; self.states.len()],
            fc: [vec![0.0; fc.len() * HIDDEN], vec![0.0; fc.len()]],
            conv0: [vec![0.0; d1 * d0], vec![0.0; d1]],
            conv1: [vec![0.0; conv1.len() * d1], vec![0.0; conv1.len()]],
            class,
        };
        let mut d_hidden = vec![0.0; self.hidden[1].len()];
        linear::input_gradient(&d_blocks, &conv1_w, conv1.len(), &mut d_hidden);
        linear::relu_gradient(&self.hidden[1], &mut d_hidden);
        let [w, b] = &mut found.conv1;
        linear::parameter_gradient(&self.hidden[1], &d_blocks, [w, b]);
        let mut d_first = vec![0.0; self.hidden[0].len()];
        linear::input_gradient(&d_hidden, p.get(slot::CONV0[0]), d1, &mut d_first);
        linear::relu_gradient(&self.hidden[0], &mut d_first);
        let [w, b] = &mut found.conv0;
        linear::parameter_gradient(&self.hidden[0], &d_hidden, [w, b]);
        let [fc_w, _] = gather(p, slot::FC, &fc);
        linear::input_gradient(&d_first, &fc_w, fc.len(), &mut found.states);
        let [w, b] = &mut found.fc;
        linear::parameter_gradient(&self.states, &d_first, [w, b]);
        found
    }

    /// The parameters of this group.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }
}

/// The transpose of a matrix with so many columns.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns;
    (0..matrix.len()).map(|i| matrix[i % rows * columns + i / rows]).collect()
}
