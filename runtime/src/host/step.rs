//! One op, prepared. Enters: an op of the image, the instruction set. Leaves: packed weights, and with them the op's output
//! in the arena.

use super::{Executor, Isa};
use crate::{
    exec::step,
    image::{Op, repr::OpKind},
    kernels::{
        Input, Kernels, Output, Window,
        add::simd::Sum,
        average_pool::simd::Mean,
        conv2d::{Conv2d, simd::Packed, simd_depthwise::Packed as PackedDepthwise},
        max_pool::simd::Largest,
        simd::{Kernel, Simd},
    },
};

/// How an op runs.
#[derive(Debug)]
pub(super) enum Step {
    /// With kernels that need nothing prepared.
    Plain(Kernels),
    /// A convolution, or a dense layer as one.
    Conv(Isa, Packed),
    /// A depthwise convolution.
    Depthwise(Isa, PackedDepthwise),
    /// Compiled for the instruction set, with nothing prepared.
    Vectorized(Isa),
}

impl Step {
    /// Prepares `op`.
    pub(super) fn new(executor: Executor, op: &Op) -> Self {
        let isa = match executor {
            Executor::Plain(kernels) => return Self::Plain(kernels),
            Executor::Simd(isa) => isa,
        };
        let layout = isa.layout();
        let (x, y) = (Input::new(&op.input(0), &[]), op.output().shape());
        match op.repr.kind {
            OpKind::Conv2d { window, groups, weights } => {
                let conv = Conv2d::new(op, window, groups, weights);
                if conv.depthwise {
                    return Self::Depthwise(isa, PackedDepthwise::new(layout.form, &conv, &x, [y[0], y[1]]));
                }
                Self::Conv(isa, Packed::new(layout, &conv, &x, y))
            }
            OpKind::Dense { weights } => {
                let conv = Conv2d { window: Window::POINT, groups: 1, depthwise: false, weights: op.weights(weights) };
                Self::Conv(isa, Packed::new(layout, &conv, &flat(x), y))
            }
            OpKind::Add { .. }
            | OpKind::MaxPool { .. }
            | OpKind::AveragePool { .. }
            | OpKind::GlobalAveragePool { .. } => Self::Vectorized(isa),
            OpKind::Concat { .. } | OpKind::Lookup { .. } | OpKind::Reshape => Self::Plain(Kernels::Portable),
        }
    }

    /// Bytes of scratch that [`Self::run`] needs.
    pub(super) const fn memory(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Vectorized(_) => 0,
            Self::Conv(_, packed) => packed.memory(),
            Self::Depthwise(_, packed) => packed.memory(),
        }
    }

    /// Runs the op.
    pub(super) fn run(&self, op: &Op, arena: &mut [u8], scratch: &mut [u8]) {
        match self {
            Self::Plain(kernels) => step::run(*kernels, op, arena),
            Self::Conv(isa, packed) => {
                let (x, y, _) = step::apart(op, arena);
                let x = if matches!(op.repr.kind, OpKind::Dense { .. }) { flat(x) } else { x };
                isa.run(ConvRun { packed, x, y, scratch });
            }
            Self::Depthwise(isa, packed) => {
                let (x, y, _) = step::apart(op, arena);
                isa.run(DepthwiseRun { packed, x, y, scratch });
            }
            Self::Vectorized(isa) => vectorized(*isa, op, arena),
        }
    }
}

fn vectorized(isa: Isa, op: &Op, arena: &mut [u8]) {
    match op.repr.kind {
        OpKind::Add { multipliers, shift } => {
            let add = step::add_constants(op, multipliers, shift);
            isa.run(Sum { add: &add, arena, inputs: [0, 1].map(|i| op.input(i).range()), y: op.output().range() });
        }
        OpKind::MaxPool { window } => {
            let (x, y, _) = step::apart(op, arena);
            isa.run(Largest { window: window.into(), x, y });
        }
        OpKind::AveragePool { window, multipliers } => {
            let (x, y, _) = step::apart(op, arena);
            let multipliers = op.table(multipliers);
            isa.run(Mean { window: window.into(), multiplier: |taps: usize| multipliers.f32(taps - 1), x, y });
        }
        OpKind::GlobalAveragePool { multiplier } => {
            let (x, y, _) = step::apart(op, arena);
            let window = Window { kernel: [x.shape[0], x.shape[1]], ..Window::POINT };
            isa.run(Mean { window, multiplier: |_: usize| multiplier, x, y });
        }
        _ => unreachable!("no other op is prepared so"),
    }
}

/// A tensor as one pixel.
fn flat(x: Input) -> Input {
    Input { shape: [1, 1, x.shape.iter().product()], ..x }
}

struct ConvRun<'a> {
    packed: &'a Packed,
    x: Input<'a>,
    y: Output<'a>,
    scratch: &'a mut [u8],
}

impl Kernel for ConvRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(mut self, simd: V) {
        self.packed.run(simd, &self.x, &mut self.y, self.scratch);
    }
}

struct DepthwiseRun<'a> {
    packed: &'a PackedDepthwise,
    x: Input<'a>,
    y: Output<'a>,
    scratch: &'a mut [u8],
}

impl Kernel for DepthwiseRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(mut self, simd: V) {
        self.packed.run(simd, &self.x, &mut self.y, self.scratch);
    }
}
