//! One operation as an ONNX node: operator, attributes, rank of what it reads and writes. Enters: an [`Op`]. Leaves: what
//! the node says; parameters are added by the callers, who know in which form. Refuses nothing.

use super::{REAL, SHAPE, Sheet};
use crate::network::{Function, Op, Window};
use crate::onnx::builder::{Attribute, Element};

/// How many extents a value has in ONNX; a network knows only `C H W`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// `N C`.
    Vector,
    /// `N C H W`.
    Image,
}

/// The rank that `op` wants all its inputs in, given the ranks they have.
pub(super) fn input_rank(op: &Op, inputs: &[Rank]) -> Rank {
    match op {
        Op::Conv2d(_) | Op::MaxPool(_) | Op::AveragePool(_) | Op::GlobalAveragePool | Op::Pad { .. } => Rank::Image,
        Op::Dense(_) => Rank::Vector,
        Op::BatchNorm(_)
        | Op::Clamp { .. }
        | Op::Function(_)
        | Op::Add
        | Op::Mul
        | Op::Concat
        | Op::Softmax
        | Op::Flatten => {
            if inputs.contains(&Rank::Image) {
                Rank::Image
            } else {
                Rank::Vector
            }
        }
    }
}

/// The rank of the output for inputs of rank `input`.
pub(super) fn output_rank(op: &Op, input: Rank) -> Rank {
    if matches!(op, Op::Flatten) { Rank::Vector } else { input }
}

/// The attributes of the node, without those that ONNX takes for granted.
pub(super) fn attributes(op: &Op) -> Vec<(&'static str, Attribute)> {
    match op {
        Op::Conv2d(conv) => {
            let mut attributes = window(&conv.window);
            attributes.extend(unless("dilations", &conv.window.dilation, 1));
            attributes.extend((conv.groups != 1).then_some(("group", Attribute::Int(conv.groups as i64))));
            attributes
        }
        Op::MaxPool(pool) | Op::AveragePool(pool) => window(&pool.window),
        Op::Dense(_) => vec![("transB", Attribute::Int(1))],
        Op::BatchNorm(norm) => vec![("epsilon", Attribute::Float(norm.epsilon))],
        Op::Concat | Op::Softmax => vec![("axis", Attribute::Int(1))],
        Op::Function(Function::LeakyRelu { alpha }) => vec![("alpha", Attribute::Float(*alpha))],
        Op::Function(Function::HardSigmoid { alpha, beta }) => {
            vec![("alpha", Attribute::Float(*alpha)), ("beta", Attribute::Float(*beta))]
        }
        Op::Clamp { .. }
        | Op::Function(_)
        | Op::GlobalAveragePool
        | Op::Add
        | Op::Mul
        | Op::Pad { .. }
        | Op::Flatten => vec![],
    }
}

/// How often the node reads its first input: an op of two operators reads it twice.
pub(super) fn reads(op: &Op) -> usize {
    if matches!(op, Op::Function(Function::Silu)) { 2 } else { 1 }
}

impl Sheet<'_> {
    /// Adds the operators of one op, from floats to floats. `inputs` has the first one [`reads`] times, then the others and
    /// the parameters.
    pub(super) fn operators(&mut self, op: &Op, name: &str, inputs: &[&str], output: &str) {
        let builder = &mut self.builder;
        match op {
            Op::Function(Function::Silu) => {
                let sigmoid = builder.numbered(REAL);
                builder.node("Sigmoid", "", &inputs[..1], &sigmoid, vec![]);
                builder.node("Mul", name, &[inputs[1], &sigmoid], output, vec![]);
            }
            Op::Pad { padding: [top, left, bottom, right] } => {
                let pads = [0, 0, *top, *left, 0, 0, *bottom, *right].map(|extent| extent as i64);
                let pads = builder.shared_integers(SHAPE, Element::I64, &[pads.len()], &pads);
                builder.node("Pad", name, &[inputs[0], &pads], output, vec![]);
            }
            _ => builder.node(op.name(), name, inputs, output, attributes(op)),
        }
    }
}

fn window(window: &Window) -> Vec<(&'static str, Attribute)> {
    let mut attributes = vec![("kernel_shape", ints(&window.kernel))];
    attributes.extend(unless("strides", &window.stride, 1));
    attributes.extend(unless("pads", &window.padding, 0));
    attributes
}

/// An attribute, unless every value is the one that ONNX takes for granted.
fn unless(name: &'static str, values: &[usize], default: usize) -> Option<(&'static str, Attribute)> {
    values.iter().any(|&v| v != default).then(|| (name, ints(values)))
}

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}
