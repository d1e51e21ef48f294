//! One operation as an ONNX node: operator, attributes, rank of what it reads and writes. Enters: an [`Op`]. Leaves: what
//! the node says; parameters are added by the callers, who know in which form. Refuses nothing.

use crate::network::{Op, Window};
use crate::onnx::builder::Attribute;

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
        Op::Conv2d(_) | Op::MaxPool(_) | Op::AveragePool(_) | Op::GlobalAveragePool => Rank::Image,
        Op::Dense(_) => Rank::Vector,
        Op::BatchNorm(_) | Op::Clamp { .. } | Op::Add | Op::Concat | Op::Flatten => {
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
        Op::Concat => vec![("axis", Attribute::Int(1))],
        Op::Clamp { .. } | Op::GlobalAveragePool | Op::Add | Op::Flatten => vec![],
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
