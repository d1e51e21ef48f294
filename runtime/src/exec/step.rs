//! One op. Enters: a checked op and the arena. Leaves: the op's output in the arena.

use crate::{
    arith::AddRescale,
    image::{
        Op, Tensor,
        repr::{OpKind, Span},
    },
    kernels::{self, Input, Kernels, Output, add::Add, concat::Place, conv2d::Conv2d},
};
use core::cell::Cell;

pub(crate) fn run(kernels: Kernels, op: &Op, arena: &mut [u8]) {
    match op.repr.kind {
        OpKind::Conv2d { window, groups, weights } => {
            let conv = Conv2d::new(op, window, groups, weights);
            let (x, y, scratch) = apart(op, arena);
            kernels::conv2d::run(kernels, &conv, x, y, scratch);
        }
        OpKind::Dense { weights } => {
            let (x, y, _) = apart(op, arena);
            kernels::dense::run(kernels, &op.weights(weights), x, y);
        }
        OpKind::MaxPool { window } => {
            let (x, y, _) = apart(op, arena);
            kernels::max_pool::run(&window.into(), x, y);
        }
        OpKind::AveragePool { window, multipliers } => {
            let (x, y, _) = apart(op, arena);
            kernels::average_pool::run(&window.into(), op.table(multipliers), x, y);
        }
        OpKind::GlobalAveragePool { multiplier } => {
            let (x, y, _) = apart(op, arena);
            kernels::global_average_pool::run(multiplier, x, y);
        }
        OpKind::Add { multipliers, shift } => add(kernels, op, multipliers, shift, arena),
        OpKind::Concat { tables } => concat(op, tables, arena),
        OpKind::Lookup { table } => {
            let table = op.byte_table(table).expect("the check has seen 256 bytes");
            let arena = Cell::from_mut(arena).as_slice_of_cells();
            kernels::lookup::run(table, cells(arena, &op.input(0)), cells(arena, &op.output()));
        }
        OpKind::Reshape => {}
    }
}

/// The input, the output and the scratch of an op that reads one tensor and writes elsewhere.
pub(crate) fn apart<'m>(op: &Op, arena: &'m mut [u8]) -> (Input<'m>, Output<'m>, &'m mut [u8]) {
    let (x, y) = (op.input(0), op.output());
    let [input, output, scratch] = arena
        .get_disjoint_mut([x.range(), y.range(), op.scratch()])
        .expect("the check has seen that input, output and scratch lie apart");
    (Input::new(&x, input), Output::new(&y, op.clamp(), output), scratch)
}

/// A tensor of an op that may write where it reads.
fn cells<'m>(arena: &'m [Cell<u8>], tensor: &Tensor) -> &'m [Cell<u8>] {
    &arena[tensor.range()]
}

/// Constants of the Add that `op` is, given what its record says.
pub(crate) fn add_constants(op: &Op, multipliers: [i32; 2], shift: u8) -> Add {
    let (inputs, y) = ([op.input(0), op.input(1)], op.output());
    Add {
        rescale: AddRescale {
            input_zero_points: inputs.map(|x| x.repr.zero_point),
            multipliers,
            shift: shift.into(),
            zero_point: y.repr.zero_point,
            clamp: op.clamp(),
        },
        signed: inputs.map(|x| x.repr.signed),
    }
}

fn add(kernels: Kernels, op: &Op, multipliers: [i32; 2], shift: u8, arena: &mut [u8]) {
    let add = add_constants(op, multipliers, shift);
    let arena = Cell::from_mut(arena).as_slice_of_cells();
    kernels::add::run(kernels, &add, [0, 1].map(|i| cells(arena, &op.input(i))), cells(arena, &op.output()));
}

fn concat(op: &Op, tables: Span, arena: &mut [u8]) {
    let tables = op.table(tables);
    let y = op.output();
    let arena = Cell::from_mut(arena).as_slice_of_cells();
    let mut place = Place { channels: 0, first: 0, out_channels: y.shape()[2] };
    for (i, x) in op.inputs().enumerate() {
        place.channels = x.shape()[2];
        kernels::concat::run(place, op.byte_table(tables.span(i)), cells(arena, &x), cells(arena, &y));
        place.first += place.channels;
    }
}
