//! One op, prepared. Enters: an op of the image, the instruction set. Leaves: packed weights, and with them the op's output
//! in the arena.

use super::{Executor, Isa, team::Running};
use crate::{
    exec::step,
    image::{Op, repr::OpKind},
    kernels::{
        Kernels, Output, Window,
        add::simd::Sum,
        average_pool::simd::Mean,
        conv2d::packed::{Packed, Rows, flat},
        max_pool::simd::Largest,
        simd::{
            Row,
            packing::{Source, Spoiled},
        },
    },
};
use std::sync::{Mutex, PoisonError};

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

/// Multiply-accumulates from which on threads share a convolution: less is done before another one has begun.
const SHARED_MACS: u64 = 100_000;

impl Step {
    /// Prepares `op`, whose packed weights come next in `source`.
    pub(super) fn new(executor: Executor, op: &Op, source: &mut Source) -> Result<Self, Spoiled> {
        let isa = match executor {
            Executor::Plain(kernels) => return Ok(Self::Plain(kernels)),
            Executor::Simd(isa) => isa,
        };
        if let Some(packed) = Packed::read(isa.packing(), op, source)? {
            return Ok(Self::Conv(isa, packed));
        }
        Ok(match op.repr.kind {
            OpKind::Add { .. }
            | OpKind::MaxPool { .. }
            | OpKind::AveragePool { .. }
            | OpKind::GlobalAveragePool { .. } => Self::Vectorized(isa),
            _ => Self::Plain(Kernels::Portable),
        })
    }

    /// Bytes of scratch that a part of the op needs.
    pub(super) const fn memory(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Vectorized(_) => 0,
            Self::Conv(_, packed) => packed.memory(),
        }
    }

    /// Runs the op, with whoever is there to help. The scratch holds [`Self::memory`] for each part; `weights` are the packed
    /// rows of the network.
    pub(super) fn run(
        &self,
        op: &Op,
        weights: &[Row],
        arena: &mut [u8],
        scratch: &mut [u8],
        team: Option<&mut Running>,
    ) {
        match self {
            Self::Plain(kernels) => step::run(*kernels, op, arena),
            Self::Conv(isa, packed) => {
                let (x, y, _) = step::apart(op, arena);
                let x = if matches!(op.repr.kind, OpKind::Dense { .. }) { flat(x) } else { x };
                let rows = 0..y.shape[0];
                let rows = Rows { packed, weights, x, y, rows, scratch };
                match team {
                    Some(team) if op.macs() >= SHARED_MACS && rows.rows.len() > 1 => share(*isa, rows, team),
                    _ => isa.run(rows),
                }
            }
            Self::Vectorized(isa) => vectorized(*isa, op, arena),
        }
    }
}

/// Runs all rows of a convolution in parts, one for each thread; each part has its memory in the scratch. One part, and from the
/// ends as the team gives them out, so that a core finds in its cache the rows that it has written before.
fn share(isa: Isa, all: Rows, team: &mut Running) {
    let Rows { packed, weights, x, y, scratch, .. } = all;
    let [height, width, channels] = y.shape;
    let in_part = height.div_ceil(team.threads());
    // One byte keeps chunks apart where no scratch is needed.
    let scratch = scratch.chunks_mut(packed.memory().max(1));
    let parts: Vec<Mutex<Option<Rows>>> = y
        .bytes
        .chunks_mut(in_part * width * channels)
        .zip(scratch)
        .enumerate()
        .map(|(i, (bytes, scratch))| {
            let rows = i * in_part..height.min((i + 1) * in_part);
            Mutex::new(Some(Rows { packed, weights, x, y: Output { bytes, ..y }, rows, scratch }))
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
