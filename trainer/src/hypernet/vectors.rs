//! Scales, shifts and biases from node states. Enters: states, and which parameters they stand for. Leaves: vectors, and from
//! their gradients those of the states and of the decoder. Refuses nothing.
//!
//! A state becomes two rows of [`CHANNELS`] values. Row 0 is the scale of BatchNorm, `2 sigmoid(p / 2)`; row 1 its shift or a
//! bias, `tanh(p / 5)`; the classifier's bias comes from row 1 through a layer of its own.

use super::decode::Item;
use super::linear;
use super::parameters::{CHANNELS, HIDDEN, Parameters, slot};
use crate::graph::ParameterKind;

/// What the gradient reads; rows are items.
#[derive(Debug)]
pub(super) struct Vectors {
    items: Vec<(Item, ParameterKind)>,
    states: Vec<f32>,
    hidden: Vec<f32>,
    rows: Vec<f32>,
    /// ReLU of row 1 of the classifiers' biases, and what their layer made of it.
    class: Vec<f32>,
    logits: Vec<f32>,
}

fn scale(p: f32) -> f32 {
    2.0 / (1.0 + (-0.5 * p).exp())
}

fn shift(p: f32) -> f32 {
    (0.2 * p).tanh()
}

/// Decodes all `items`: for BatchNorm scales and then shifts.
pub(super) fn forward(p: &Parameters, states: &[f32], items: Vec<(Item, ParameterKind)>) -> (Vectors, Vec<Vec<f32>>) {
    let states: Vec<f32> =
        items.iter().flat_map(|(item, _)| &states[item.node * HIDDEN..][..HIDDEN]).copied().collect();
    let mut v = Vectors { items, states, hidden: vec![], rows: vec![], class: vec![], logits: vec![] };
    if v.items.is_empty() {
        return (v, vec![]);
    }
    v.hidden = linear::forward(&v.states, p.get(slot::VECTOR0[0]), p.get(slot::VECTOR0[1]));
    linear::relu(&mut v.hidden);
    v.rows = linear::forward(&v.hidden, p.get(slot::VECTOR1[0]), p.get(slot::VECTOR1[1]));
    let classifiers = v.items.iter().zip(v.rows.chunks_exact(2 * CHANNELS)).filter(|((item, _), _)| item.classifier);
    v.class = classifiers.flat_map(|(_, rows)| &rows[CHANNELS..]).copied().collect();
    linear::relu(&mut v.class);
    if !v.class.is_empty() {
        v.logits = linear::forward(&v.class, p.get(slot::BIAS_CLASS[0]), p.get(slot::BIAS_CLASS[1]));
    }
    let mut logits = v.logits.chunks_exact(p.config().classes);
    let vector = |((item, kind), rows): (&(Item, ParameterKind), &[f32])| -> Vec<f32> {
        let (n, (row0, row1)) = (item.shape[0], rows.split_at(CHANNELS));
        let shifts = |row: &[f32]| -> Vec<f32> { (0..n).map(|i| shift(row[i % row.len()])).collect() };
        match (kind, item.classifier) {
            (_, true) => shifts(logits.next().expect("a row for each classifier")),
            (ParameterKind::Norm, _) => (0..n).map(|i| scale(row0[i % CHANNELS])).chain(shifts(row1)).collect(),
            _ => shifts(row1),
        }
    };
    let vectors = v.items.iter().zip(v.rows.chunks_exact(2 * CHANNELS)).map(vector).collect();
    (v, vectors)
}

impl Vectors {
    /// The parameters, in the order of the vectors.
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().map(|(item, _)| item)
    }

    /// Adds to the gradients of parameters and states.
    pub(super) fn backward(&self, p: &Parameters, d_vectors: &[&[f32]], grad: &mut Parameters, d_states: &mut [f32]) {
        if self.items.is_empty() {
            return;
        }
        let classes = p.config().classes;
        let mut d_rows = vec![0.0; self.rows.len()];
        let mut d_logits = vec![0.0; self.logits.len()];
        let mut logits = self.logits.chunks_exact(classes).zip(d_logits.chunks_exact_mut(classes));
        let rows = self.rows.chunks_exact(2 * CHANNELS).zip(d_rows.chunks_exact_mut(2 * CHANNELS));
        for (((item, kind), d), (rows, d_rows)) in self.items.iter().zip(d_vectors).zip(rows) {
            let shifts = |row: &[f32], d: &[f32], d_row: &mut [f32]| {
                for (i, d) in d.iter().enumerate() {
                    let t = shift(row[i % row.len()]);
                    d_row[i % row.len()] += 0.2 * (1.0 - t * t) * d;
                }
            };
            let (d_row0, d_row1) = d_rows.split_at_mut(CHANNELS);
            match (kind, item.classifier) {
                (_, true) => {
                    let (row, d_row) = logits.next().expect("a row for each classifier");
                    shifts(row, d, d_row);
                }
                (ParameterKind::Norm, _) => {
                    let (d_scale, d_shift) = d.split_at(item.shape[0]);
                    for (i, d) in d_scale.iter().enumerate() {
                        let s = 0.5 * scale(rows[i % CHANNELS]);
                        d_row0[i % CHANNELS] += s * (1.0 - s) * d;
                    }
                    shifts(&rows[CHANNELS..], d_shift, d_row1);
                }
                _ => shifts(&rows[CHANNELS..], d, d_row1),
            }
        }
        if !self.class.is_empty() {
            let mut d_class = vec![0.0; self.class.len()];
            linear::input_gradient(&d_logits, p.get(slot::BIAS_CLASS[0]), classes, &mut d_class);
            linear::relu_gradient(&self.class, &mut d_class);
            linear::parameter_gradient(&self.class, &d_logits, grad.pair_mut(slot::BIAS_CLASS));
            let classifiers =
                self.items.iter().zip(d_rows.chunks_exact_mut(2 * CHANNELS)).filter(|((item, _), _)| item.classifier);
            for ((_, d_rows), d) in classifiers.zip(d_class.chunks_exact(CHANNELS)) {
                d_rows[CHANNELS..].iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
            }
        }
        let mut d_hidden = vec![0.0; self.hidden.len()];
        linear::input_gradient(&d_rows, p.get(slot::VECTOR1[0]), 2 * CHANNELS, &mut d_hidden);
        linear::relu_gradient(&self.hidden, &mut d_hidden);
        linear::parameter_gradient(&self.hidden, &d_rows, grad.pair_mut(slot::VECTOR1));
        let mut d = vec![0.0; self.states.len()];
        linear::input_gradient(&d_hidden, p.get(slot::VECTOR0[0]), CHANNELS, &mut d);
        linear::parameter_gradient(&self.states, &d_hidden, grad.pair_mut(slot::VECTOR0));
        for ((item, _), d) in self.items.iter().zip(d.chunks_exact(HIDDEN)) {
            d_states[item.node * HIDDEN..][..HIDDEN].iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
        }
    }
}
