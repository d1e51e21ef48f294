//! One op, prepared. Enters: an op of the image, the instruction set. Leaves: packed weights, and with them the op's output
//! in the arena.

use super::{Executor, Isa, team::Running};
#[cfg(target_arch = "aarch64")]
use crate::kernels::conv2d::neon_depthwise;
use crate::{
    exec::step,
    image::{Op, repr::OpKind},
    kernels::{
        Input, Kernels, Output, Window,
        add::simd::Sum,
        average_pool::simd::Mean,
        conv2d::{Conv2d, simd, simd_depthwise},
        max_pool::simd::Largest,
        simd::{Kernel, Simd},
    },
};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// How an op runs.
#[derive(Debug)]
pub(super) enum Step {
    /// With kernels that need nothing prepared.
    Plain(Kernels),
    /// A convolution, or a dense layer as one.
    Conv(Isa, Packed),
    /// Compiled for the instruction set, with nothing prepared.
    Vectorized(Isa),
}

/// A convolution with its weights packed.
#[derive(Debug)]
pub(super) enum Packed {
    Conv(simd::Packed),
    Depthwise(simd_depthwise::Packed),
    #[cfg(target_arch = "aarch64")]
    Neon(neon_depthwise::Packed),
}

/// Multiply-accumulates from which on threads share a convolution: less is done before another one has begun.
const SHARED_MACS: u64 = 100_000;

/// Parts for each thread: those who come late take fewer.
pub(super) const PARTS: usize = 2;

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
                #[cfg(target_arch = "aarch64")]
                if let Some(neon) = isa.plain_neon().filter(|_| conv.depthwise) {
                    let packed = neon_depthwise::Packed::new(neon, &conv, &x, [y[0], y[1]]);
                    return Self::Conv(isa, Packed::Neon(packed));
                }
                let packed = if conv.depthwise {
                    Packed::Depthwise(simd_depthwise::Packed::new(layout.form.own(), &conv, &x, [y[0], y[1]]))
                } else {
                    Packed::Conv(simd::Packed::new(layout, &conv, &x, y))
                };
                Self::Conv(isa, packed)
            }
            OpKind::Dense { weights } => {
                let conv = Conv2d {
                    window: Window::POINT,
                    groups: 1,
                    depthwise: false,
                    weights: op.weights(weights),
                    prepared: false,
                };
                Self::Conv(isa, Packed::Conv(simd::Packed::new(layout, &conv, &flat(x), y)))
            }
            OpKind::Add { .. }
            | OpKind::MaxPool { .. }
            | OpKind::AveragePool { .. }
            | OpKind::GlobalAveragePool { .. } => Self::Vectorized(isa),
            OpKind::Mul { .. }
            | OpKind::Pad { .. }
            | OpKind::Concat { .. }
            | OpKind::Lookup { .. }
            | OpKind::Softmax { .. }
            | OpKind::Reshape => Self::Plain(Kernels::Portable),
        }
    }

    /// Bytes of scratch that a part of the op needs.
    pub(super) const fn memory(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Vectorized(_) => 0,
            Self::Conv(_, Packed::Conv(packed)) => packed.memory(),
            Self::Conv(_, Packed::Depthwise(packed)) => packed.memory(),
            #[cfg(target_arch = "aarch64")]
            Self::Conv(_, Packed::Neon(packed)) => packed.memory(),
        }
    }

    /// Runs the op, with whoever is there to help. The scratch holds [`Self::memory`] for each part.
    pub(super) fn run(&self, op: &Op, arena: &mut [u8], scratch: &mut [u8], team: Option<&mut Running>) {
        match self {
            Self::Plain(kernels) => step::run(*kernels, op, arena),
            Self::Conv(isa, packed) => {
                let (x, y, _) = step::apart(op, arena);
                let x = if matches!(op.repr.kind, OpKind::Dense { .. }) { flat(x) } else { x };
                match team {
                    Some(team) if op.macs() >= SHARED_MACS && y.shape[0] > 1 => {
                        share(*isa, packed, x, y, (scratch, self.memory()), team);
                    }
                    _ => {
                        let rows = 0..y.shape[0];
                        isa.run(Rows { packed, x, y, rows, scratch });
                    }
                }
            }
            Self::Vectorized(isa) => vectorized(*isa, op, arena),
        }
    }
}

/// Runs a convolution in parts of some rows each; each part has `memory` bytes of the scratch.
fn share(isa: Isa, packed: &Packed, x: Input, y: Output, (scratch, memory): (&mut [u8], usize), team: &mut Running) {
    let [height, width, channels] = y.shape;
    let in_part = height.div_ceil(PARTS * team.threads());
    // One byte keeps chunks apart where no scratch is needed.
    let scratch = scratch.chunks_mut(memory.max(1));
    let parts: Vec<Mutex<Option<Rows>>> = y
        .bytes
        .chunks_mut(in_part * width * channels)
        .zip(scratch)
        .enumerate()
        .map(|(i, (bytes, scratch))| {
            let rows = i * in_part..height.min((i + 1) * in_part);
            Mutex::new(Some(Rows { packed, x, y: Output { bytes, ..y }, rows, scratch }))
        })
        .collect();
    team.share(parts.len() as u16, &|part| {
        if let Some(rows) = parts[part].lock().unwrap_or_else(PoisonError::into_inner).take() {
            isa.run(rows);
        }
    });
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

/// Some rows of a convolution's output.
struct Rows<'a> {
    packed: &'a Packed,
    x: Input<'a>,
    /// With the bytes of these rows.
    y: Output<'a>,
    rows: Range<usize>,
    scratch: &'a mut [u8],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(mut self, simd: V) {
        match self.packed {
            Packed::Conv(packed) => packed.run(simd, &self.x, &mut self.y, self.rows, self.scratch),
            Packed::Depthwise(packed) => packed.run(simd, &self.x, &mut self.y, self.rows, self.scratch),
            #[cfg(target_arch = "aarch64")]
            Packed::Neon(packed) => packed.run(&self.x, &mut self.y, self.rows, self.scratch),
        }
    }
}
