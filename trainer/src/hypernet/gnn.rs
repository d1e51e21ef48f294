//! The gated graph network: one round, along the data flow and back. Enters: first states of all nodes of a meta-batch, its
//! graph. Leaves: final states, and from their gradient that of the first states and of the parameters. Refuses nothing.
//!
//! Nodes are put into the order of their levels, so that a level is a block of rows: all nodes of all graphs that are on it
//! are updated at once. No node hears from its own level, so the result is that of going through the nodes one by one.
//! Messages are computed once for each node, right after its update.

use super::linear;
use super::parameters::{HIDDEN, MESSAGE, Parameters, slot};
use crate::graph::{Adjacency, GraphBatch, Levels};
use std::ops::Range;

/// What one direction keeps for its gradient; rows are in the order of levels.
#[derive(Debug)]
struct Pass {
    /// Rows of each level.
    levels: Vec<Range<usize>>,
    /// Node of each row.
    nodes: Vec<usize>,
    /// Sources of each row: `sources[offsets[i]..offsets[i + 1]]`, as row and distance.
    offsets: Vec<usize>,
    sources: Vec<(u32, u8)>,
    /// States before.
    before: Vec<f32>,
    /// Messages received.
    received: Vec<f32>,
    /// Gates `r`, `z`, `n` side by side.
    gates: Vec<f32>,
    /// The state's part of the candidate, `W_hn h + b_hn`.
    candidate: Vec<f32>,
    /// States after.
    after: Vec<f32>,
    /// Hidden features and results of the two message networks.
    sent: [Message; 2],
}

#[derive(Debug)]
struct Message {
    hidden: Vec<f32>,
    value: Vec<f32>,
}

/// A finished round.
#[derive(Debug)]
pub(super) struct Round {
    passes: [Pass; 2],
}

/// The message networks: of real edges, and of all edges.
const NETWORKS: [[usize; 4]; 2] = [slot::MLP, slot::MLP_VE];

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Runs one round; `states` has a row of [`HIDDEN`] for each node.
pub(super) fn forward(p: &Parameters, graph: &GraphBatch, states: &[f32]) -> (Vec<f32>, Round) {
    let along = Pass::run(p, &graph.forward, &graph.incoming, states);
    let back = Pass::run(p, &graph.backward, &graph.outgoing, &along.states());
    (back.states(), Round { passes: [along, back] })
}

/// Adds the gradients of the parameters to `grad`; returns that of the first states.
pub(super) fn backward(p: &Parameters, round: &Round, d_states: &[f32], grad: &mut Parameters) -> Vec<f32> {
    round.passes.iter().rev().fold(d_states.to_vec(), |d, pass| pass.gradient(p, &d, grad))
}

impl Pass {
    fn run(p: &Parameters, levels: &Levels, adjacency: &Adjacency, states: &[f32]) -> Self {
        let nodes: Vec<usize> = levels.nodes.iter().map(|&node| node as usize).collect();
        let n = nodes.len();
        let mut row_of = vec![0u32; n];
        nodes.iter().enumerate().for_each(|(row, &node)| row_of[node] = row as u32);
        let (mut offsets, mut sources) = (vec![0], Vec::with_capacity(adjacency.neighbours.len()));
        for &node in &nodes {
            sources.extend(adjacency.of(node).map(|(u, distance)| (row_of[u], distance)));
            offsets.push(sources.len());
        }
        let before: Vec<f32> = nodes.iter().flat_map(|&node| &states[node * HIDDEN..][..HIDDEN]).copied().collect();
        let message = || Message { hidden: vec![0.0; n * MESSAGE], value: vec![0.0; n * HIDDEN] };
        let mut pass = Self {
            levels: levels.offsets.windows(2).map(|pair| pair[0] as usize..pair[1] as usize).collect(),
            nodes,
            offsets,
            sources,
            received: vec![0.0; n * HIDDEN],
            gates: vec![0.0; n * 3 * HIDDEN],
            candidate: vec![0.0; n * HIDDEN],
            after: vec![0.0; n * HIDDEN],
            sent: [message(), message()],
            before,
        };
        // The state's part of the gates is known for all nodes at once.
        let from_state = linear::forward(&pass.before, p.get(slot::GRU[1]), p.get(slot::GRU[3]));
        for level in pass.levels.clone() {
            pass.receive(level.clone());
            pass.update(p, level.clone(), &from_state);
            pass.send(p, level);
        }
        pass
    }

    /// Sums up what the sources sent.
    fn receive(&mut self, level: Range<usize>) {
        for row in level {
            let sum = &mut self.received[row * HIDDEN..][..HIDDEN];
            for &(source, distance) in &self.sources[self.offsets[row]..self.offsets[row + 1]] {
                let at = source as usize * HIDDEN..(source as usize + 1) * HIDDEN;
                let share = 1.0 / f32::from(distance);
                for (sum, v) in sum.iter_mut().zip(&self.sent[1].value[at.clone()]) {
                    *sum += share * v;
                }
                // Real edges are heard by both networks.
                if distance == 1 {
                    for (sum, v) in sum.iter_mut().zip(&self.sent[0].value[at]) {
                        *sum += v;
                    }
                }
            }
        }
    }

    /// The GRU.
    fn update(&mut self, p: &Parameters, level: Range<usize>, from_state: &[f32]) {
        let (one, three) = (level.start * HIDDEN..level.end * HIDDEN, 3 * level.start * HIDDEN..3 * level.end * HIDDEN);
        let gates = &mut self.gates[three.clone()];
        linear::forward_into(&self.received[one.clone()], p.get(slot::GRU[0]), p.get(slot::GRU[2]), gates);
        let rows = gates.chunks_exact_mut(3 * HIDDEN).zip(from_state[three].chunks_exact(3 * HIDDEN));
        let before = self.before[one.clone()].chunks_exact(HIDDEN);
        let after = self.after[one.clone()].chunks_exact_mut(HIDDEN);
        let candidate = self.candidate[one].chunks_exact_mut(HIDDEN);
        for ((((gates, from_state), before), after), candidate) in rows.zip(before).zip(after).zip(candidate) {
            candidate.copy_from_slice(&from_state[2 * HIDDEN..]);
            for i in 0..HIDDEN {
                let r = sigmoid(gates[i] + from_state[i]);
                let z = sigmoid(gates[HIDDEN + i] + from_state[HIDDEN + i]);
                let n = (gates[2 * HIDDEN + i] + r * candidate[i]).tanh();
                (gates[i], gates[HIDDEN + i], gates[2 * HIDDEN + i]) = (r, z, n);
                after[i] = (1.0 - z) * n + z * before[i];
            }
        }
    }

    /// Both message networks; ReLU behind both of their layers.
    fn send(&mut self, p: &Parameters, level: Range<usize>) {
        let states = &self.after[level.start * HIDDEN..level.end * HIDDEN];
        for (message, [w0, b0, w1, b1]) in self.sent.iter_mut().zip(NETWORKS) {
            let hidden = &mut message.hidden[level.start * MESSAGE..level.end * MESSAGE];
            linear::forward_into(states, p.get(w0), p.get(b0), hidden);
            linear::relu(hidden);
            let value = &mut message.value[level.start * HIDDEN..level.end * HIDDEN];
            linear::forward_into(hidden, p.get(w1), p.get(b1), value);
            linear::relu(value);
        }
    }

    /// Rows back in the order of nodes.
    fn unordered(&self, rows: &[f32]) -> Vec<f32> {
        let mut states = vec![0.0; rows.len()];
        for (row, &node) in rows.chunks_exact(HIDDEN).zip(&self.nodes) {
            states[node * HIDDEN..][..HIDDEN].copy_from_slice(row);
        }
        states
    }

    fn states(&self) -> Vec<f32> {
        self.unordered(&self.after)
    }

    fn gradient(&self, p: &Parameters, d_states: &[f32], grad: &mut Parameters) -> Vec<f32> {
        let n = self.nodes.len();
        let mut d_after: Vec<f32> =
            self.nodes.iter().flat_map(|&node| &d_states[node * HIDDEN..][..HIDDEN]).copied().collect();
        let mut d_sent = [vec![0.0; n * HIDDEN], vec![0.0; n * HIDDEN]];
        let mut d_hidden = [vec![0.0; n * MESSAGE], vec![0.0; n * MESSAGE]];
        let (mut d_gates, mut d_from_state) = (vec![0.0; 3 * n * HIDDEN], vec![0.0; 3 * n * HIDDEN]);
        let mut d_before = vec![0.0; n * HIDDEN];
        let mut d_received = vec![0.0; n * HIDDEN];
        for level in self.levels.iter().rev() {
            let one = level.start * HIDDEN..level.end * HIDDEN;
            let half = level.start * MESSAGE..level.end * MESSAGE;
            for i in 0..2 {
                let [w0, _, w1, _] = NETWORKS[i];
                let d_value = &mut d_sent[i][one.clone()];
                linear::relu_gradient(&self.sent[i].value[one.clone()], d_value);
                let d_hidden = &mut d_hidden[i][half.clone()];
                linear::input_gradient(d_value, p.get(w1), HIDDEN, d_hidden);
                linear::relu_gradient(&self.sent[i].hidden[half.clone()], d_hidden);
                linear::input_gradient(d_hidden, p.get(w0), MESSAGE, &mut d_after[one.clone()]);
            }
            for row in level.clone() {
                let (gates, at) = (&self.gates[3 * row * HIDDEN..][..3 * HIDDEN], row * HIDDEN);
                let d_gates = &mut d_gates[3 * at..][..3 * HIDDEN];
                let d_from_state = &mut d_from_state[3 * at..][..3 * HIDDEN];
                for i in 0..HIDDEN {
                    let [r, z, n] = [gates[i], gates[HIDDEN + i], gates[2 * HIDDEN + i]];
                    let d = d_after[at + i];
                    let d_n = d * (1.0 - z) * (1.0 - n * n);
                    let d_z = d * (self.before[at + i] - n) * z * (1.0 - z);
                    let d_r = d_n * self.candidate[at + i] * r * (1.0 - r);
                    (d_gates[i], d_gates[HIDDEN + i], d_gates[2 * HIDDEN + i]) = (d_r, d_z, d_n);
                    (d_from_state[i], d_from_state[HIDDEN + i], d_from_state[2 * HIDDEN + i]) = (d_r, d_z, d_n * r);
                    d_before[at + i] = d * z;
                }
            }
            let gates = &d_gates[3 * one.start..3 * one.end];
            linear::input_gradient(gates, p.get(slot::GRU[0]), 3 * HIDDEN, &mut d_received[one]);
            for row in level.clone() {
                let d = &d_received[row * HIDDEN..][..HIDDEN];
                for &(source, distance) in &self.sources[self.offsets[row]..self.offsets[row + 1]] {
                    let at = source as usize * HIDDEN..(source as usize + 1) * HIDDEN;
                    let share = 1.0 / f32::from(distance);
                    for (sum, d) in d_sent[1][at.clone()].iter_mut().zip(d) {
                        *sum += share * d;
                    }
                    if distance == 1 {
                        for (sum, d) in d_sent[0][at].iter_mut().zip(d) {
                            *sum += d;
                        }
                    }
                }
            }
        }
        let [w_ih, w_hh, b_ih, b_hh] = slot::GRU;
        linear::input_gradient(&d_from_state, p.get(w_hh), 3 * HIDDEN, &mut d_before);
        linear::parameter_gradient(&self.received, &d_gates, grad.pair_mut([w_ih, b_ih]));
        linear::parameter_gradient(&self.before, &d_from_state, grad.pair_mut([w_hh, b_hh]));
        for i in 0..2 {
            let [w0, b0, w1, b1] = NETWORKS[i];
            linear::parameter_gradient(&self.after, &d_hidden[i], grad.pair_mut([w0, b0]));
            linear::parameter_gradient(&self.sent[i].hidden, &d_sent[i], grad.pair_mut([w1, b1]));
        }
        self.unordered(&d_before)
    }
}
