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
            Kernel, Row,
            packing::{Source, Spoiled},
        },
    },
};
use std::ops::Range;

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

/// Multiply-accumulates from which on threads share a convolution, and bytes written from which on they share another op: less
/// is done before another one has begun.
const SHARED_MACS: u64 = 50_000;
const SHARED_BYTES: usize = 2048;

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
                let team = team.filter(|_| op.macs() >= SHARED_MACS);
                share(*isa, y, (scratch, packed.memory()), team, move |rows, y, scratch| Rows {
                    packed,
                    weights,
                    x,
                    y,
                    rows,
                    scratch,
                });
            }
            Self::Vectorized(isa) => vectorized(*isa, op, arena, team.filter(|_| op.output().len() >= SHARED_BYTES)),
        }
    }
}

/// Runs the kernels that make all rows of `y`: one, or one for each thread, each with neighbouring rows. There are so many bytes of
/// scratch for each.
fn share<'a, K: Kernel>(
    isa: Isa,
    y: Output<'a>,
    (scratch, each): (&'a mut [u8], usize),
    team: Option<&mut Running>,
    kernel: impl Fn(Range<usize>, Output<'a>, &'a mut [u8]) -> K + Sync,
) {
    let [height, width, channels] = y.shape;
    let threads = team.as_ref().map_or(1, |team| team.threads()).min(height);
    match team.filter(|_| threads > 1) {
        None => {
            isa.run(kernel(0..height, y, scratch));
        }
        Some(team) => {
            let in_part = height.div_ceil(threads);
            let Output { shape, zero_point, clamp, bytes } = y;
            team.share((bytes, scratch), [in_part * width * channels, each], move |part, bytes, scratch| {
                let rows = part * in_part..height.min((part + 1) * in_part);
                isa.run(kernel(rows, Output { shape, zero_point, clamp, bytes }, scratch));
            });
        }
    }
}

fn vectorized(isa: Isa, op: &Op, arena: &mut [u8], team: Option<&mut Running>) {
    let nothing = (&mut [][..], 0);
    match op.repr.kind {
        OpKind::Add { multipliers, shift } => {
            let add = step::add_constants(op, multipliers, shift);
            let (inputs, y) = sum_operands(op, arena);
            let row: usize = y.shape[1..].iter().product();
            share(isa, y, nothing, team, move |rows, y, _| {
                let bytes = rows.start * row..rows.end * row;
                Sum { add, inputs: inputs.map(|x| x.map(|x| &x[bytes.clone()])), y: y.bytes }
            });
        }
        OpKind::MaxPool { window } => {
            let (x, y, _) = step::apart(op, arena);
            share(isa, y, nothing, team, move |rows, y, _| Largest { window: window.into(), x, first: rows.start, y });
        }
        OpKind::AveragePool { window, multipliers } => {
            let (x, y, _) = step::apart(op, arena);
            let multipliers = op.table(multipliers);
            let multiplier = |taps: usize| multipliers.f32(taps - 1);
            share(isa, y, nothing, team, move |rows, y, _| Mean {
                window: window.into(),
                multiplier,
                x,
                first: rows.start,
                y,
            });
        }
        OpKind::GlobalAveragePool { multiplier } => {
            let (x, y, _) = step::apart(op, arena);
            let window = Window { kernel: [x.shape[0], x.shape[1]], ..Window::POINT };
            isa.run(Mean { window, multiplier: |_: usize| multiplier, x, first: 0, y });
        }
        _ => unreachable!("no other op is prepared so"),
    }
}

/// What an Add reads, nothing where it reads what lies where it writes, and what it writes.
fn sum_operands<'m>(op: &Op, arena: &'m mut [u8]) -> ([Option<&'m [u8]>; 2], Output<'m>) {
    let (x, y) = ([0, 1].map(|i| op.input(i).range()), op.output());
    let twice = x[0] == x[1];
    let apart = [x[0] != y.range(), x[1] != y.range() && !twice];
    let [a, b, bytes] = arena
        .get_disjoint_mut([
            if apart[0] { x[0].clone() } else { 0..0 },
            if apart[1] { x[1].clone() } else { 0..0 },
            y.range(),
        ])
        .expect("the check has seen that what an Add reads lies apart from what it writes, or in the same place");
    let a = apart[0].then_some(&*a);
    (if twice { [a; 2] } else { [a, apart[1].then_some(&*b)] }, Output::new(&y, op.clamp(), bytes))
}
