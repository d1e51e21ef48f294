//! One op. Enters: a checked op and the arena. Leaves: the op's output in the arena.

use crate::{
    arith::{AddRescale, Requantize, Requantizer},
    image::{
        Op, Tensor,
        repr::{OpKind, Span, WindowRepr},
    },
    kernels::{
        self, Input, Kernels, Output, Window,
        add::Add,
        concat::Place,
        conv2d::Conv2d,
        mul::Mul,
        softmax::Softmax,
        strips::{Strip, lines},
    },
};
use core::cell::Cell;

/// Runs `op`. Never inlined: it is the runtime's code, and is to be found as such in a linked program.
#[inline(never)]
pub(crate) fn run(kernels: Kernels, op: &Op, arena: &mut [u8]) {
    kernels::linked::assert(&op.repr.kind);
    match op.repr.kind {
        OpKind::Conv2d { window, groups, weights } => {
            let mut conv = Conv2d::new(op, window, groups, weights);
            strips(op, window, arena, &mut |window, x, y, scratch| {
                conv.window = window;
                kernels::conv2d::run(kernels, &conv, x, y, scratch);
                conv.prepared = true;
            });
        }
        OpKind::Dense { weights } => {
            let (x, y, _) = apart(op, arena);
            kernels::dense::run(kernels, &op.weights(weights), x, y);
        }
        OpKind::MaxPool { window } => {
            strips(op, window, arena, &mut |window, x, y, _| kernels::max_pool::run(kernels, &window, x, y));
        }
        OpKind::AveragePool { window, multipliers } => {
            let multipliers = op.table(multipliers);
            strips(op, window, arena, &mut |window, x, y, _| {
                kernels::average_pool::run(kernels, &window, multipliers, x, y)
            });
        }
        OpKind::GlobalAveragePool { multiplier } => {
            let (x, y, _) = apart(op, arena);
            kernels::global_average_pool::run(kernels, multiplier, x, y);
        }
        OpKind::Add { multipliers, shift } => add(kernels, op, multipliers, shift, arena),
        OpKind::Mul { multiplier } => mul(op, multiplier, arena),
        OpKind::Pad { padding } => {
            let (x, y, _) = apart(op, arena);
            kernels::pad::run(padding.map(usize::from), x, y);
        }
        OpKind::Concat { tables } => concat(op, tables, arena),
        OpKind::Lookup { table } => {
            let table = op.byte_table(table).expect("the check has seen 256 bytes");
            let arena = Cell::from_mut(arena).as_slice_of_cells();
            kernels::lookup::run(table, cells(arena, &op.input(0)), cells(arena, &op.output()));
        }
        OpKind::Softmax { table, multiplier, shift } => softmax(op, (table, multiplier, shift), arena),
        OpKind::Reshape => {}
    }
}

/// What does a strip: window, input, output and scratch.
type OneStrip<'a> = dyn FnMut(Window, Input, Output, &mut [u8]) + 'a;

/// Calls `run` with window, input, output and scratch of an op that reads one tensor: once, or, when the output lies over the
/// input, once for each strip of rows. A trait object, so that this is in flash once and not once for each kind of op.
fn strips(op: &Op, window: WindowRepr, arena: &mut [u8], run: &mut OneStrip) {
    let (x, y, window) = (op.input(0), op.output(), Window::from(window));
    let [start, out_start] = [&x, &y].map(|tensor| tensor.range().start);
    let [shape, out_shape] = lines(&window, [x.shape(), y.shape()]);
    let rows = [shape, out_shape].map(|[_, w, c]| w * c);
    // Apart, there is room for everything.
    let room = if overlap(&x, &y) { start - out_start } else { y.len() };
    let mut out_row = 0;
    while out_row < out_shape[0] {
        let strip = Strip::new(&window, out_row, [shape[0], out_shape[0]], rows, room);
        let [input, output, scratch] = arena
            .get_disjoint_mut([
                // An empty range inside another one would count as overlapping it.
                if strip.start == strip.end {
                    0..0
                } else {
                    start + strip.start * rows[0]..start + strip.end * rows[0]
                },
                out_start + strip.out_start * rows[1]..out_start + strip.out_end * rows[1],
                op.scratch(),
            ])
            .expect("the check has seen that scratch lies apart, and the output apart or far enough below the input");
        let input = Input { shape: [strip.end - strip.start, shape[1], shape[2]], ..Input::new(&x, input) };
        let shape = [strip.out_end - strip.out_start, out_shape[1], out_shape[2]];
        run(strip.window(&window), input, Output { shape, ..Output::new(&y, op.clamp(), output) }, scratch);
        out_row = strip.out_end;
    }
}

/// Whether two tensors have a byte in common.
fn overlap(x: &Tensor, y: &Tensor) -> bool {
    x.range().start < y.range().end && y.range().start < x.range().end
}

/// The input, the output and the scratch of an op that reads one tensor. The input is a copy behind the arena when the output
/// lies over it, for kernels that do not work in strips; there the arena has [`arena_bytes`].
pub(crate) fn apart<'m>(op: &Op, arena: &'m mut [u8]) -> (Input<'m>, Output<'m>, &'m mut [u8]) {
    let (x, y) = (op.input(0), op.output());
    #[cfg_attr(not(any(test, feature = "std")), expect(unused_mut, reason = "only hosts copy"))]
    let mut read = x.range();
    #[cfg(any(test, feature = "std"))]
    if overlap(&x, &y) {
        let copy = arena.len() - x.len();
        arena.copy_within(read, copy);
        read = copy..arena.len();
    }
    let [input, output, scratch] = arena
        .get_disjoint_mut([read, y.range(), op.scratch()])
        .expect("the check has seen that input, output and scratch lie apart, or the input is a copy");
    (Input::new(&x, input), Output::new(&y, op.clamp(), output), scratch)
}

/// Bytes of an arena in which [`apart`] finds room for copies.
#[cfg(any(test, feature = "std"))]
pub(crate) fn arena_bytes(image: crate::Image) -> usize {
    let copied = image.ops().map(|op| (op.input(0), op.output())).filter(|(x, y)| overlap(x, y));
    image.arena_bytes() + copied.map(|(x, _)| x.len()).max().unwrap_or(0)
}

/// A tensor of an op that may write where it reads.
// Once in flash.
#[cfg_attr(target_os = "none", inline(never))]
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

fn mul(op: &Op, multiplier: f32, arena: &mut [u8]) {
    let (inputs, y) = ([op.input(0), op.input(1)], op.output());
    let mul = Mul {
        requantizer: Requantizer::new(multiplier, y.repr.zero_point, op.clamp()),
        zero_points: inputs.map(|x| x.repr.zero_point),
        signed: inputs.map(|x| x.repr.signed),
    };
    let arena = Cell::from_mut(arena).as_slice_of_cells();
    kernels::mul::run(&mul, inputs.map(|x| cells(arena, &x)), cells(arena, &y));
}

fn softmax(op: &Op, (table, multiplier, shift): (Span, i32, u8), arena: &mut [u8]) {
    let (x, y) = (op.input(0), op.output());
    let softmax = Softmax {
        table: op.table(table),
        multiplier: multiplier as u32,
        shift,
        channels: x.shape()[2],
        signed: x.repr.signed,
        zero_point: y.repr.zero_point,
        clamp: op.clamp(),
    };
    let arena = Cell::from_mut(arena).as_slice_of_cells();
    kernels::softmax::run(&softmax, cells(arena, &x), cells(arena, &y));
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
