//! A convolution or dense layer with packed weights. Enters: an op of an image, and how its weights are packed. Leaves: what is
//! packed of it, or, where that lies there already, what the kernel needs beside it. Refused: packed weights that are not
//! those of such an op.

use super::{Conv2d, Input, Output, chained_depthwise, simd, simd_depthwise};
use crate::{
    image::{Op, repr::OpKind},
    kernels::{
        Window,
        simd::{
            Kernel, Registers, Row, Simd,
            packing::{Packing, Sink, Source, Spoiled},
        },
    },
};
use core::ops::Range;

/// A convolution with its weights packed.
#[derive(Debug)]
pub(crate) enum Packed {
    Conv(simd::Packed),
    Depthwise(simd_depthwise::Packed),
    Chained(chained_depthwise::Packed),
}

/// An op with weights, as a convolution: what it reads, and the shape that it writes.
pub(crate) fn convolution<'a>(op: &Op<'a>) -> Option<(Conv2d<'a>, Input<'static>, [usize; 3])> {
    let (x, y) = (Input::new(&op.input(0), &[]), op.output().shape());
    match op.repr.kind {
        OpKind::Conv2d { window, groups, weights } => Some((Conv2d::new(op, window, groups, weights), x, y)),
        OpKind::Dense { weights } => {
            let weights = op.weights(weights);
            let conv = Conv2d { window: Window::POINT, groups: 1, depthwise: false, weights, prepared: false };
            Some((conv, flat(x), y))
        }
        _ => None,
    }
}

/// A tensor as one pixel.
pub(crate) fn flat(x: Input) -> Input {
    Input { shape: [1, 1, x.shape.iter().product()], ..x }
}

impl Packed {
    /// Packs the weights of `op`, if it has any.
    pub(crate) fn pack(packing: Packing, op: &Op, sink: &mut Sink) {
        let Some((conv, x, y)) = convolution(op) else { return };
        let (layout, out) = (packing.layout(), [y[0], y[1]]);
        match packing {
            _ if !conv.depthwise => simd::Packed::pack(layout, &conv, &x, y, sink),
            Packing::Pairs => chained_depthwise::Packed::pack(&conv, &x, out, sink),
            _ => simd_depthwise::Packed::pack(layout.form.own(), &conv, &x, out, sink),
        }
    }

    /// Reads what [`Self::pack`] has packed of `op`; nothing of one without weights.
    pub(crate) fn read(packing: Packing, op: &Op, source: &mut Source) -> Result<Option<Self>, Spoiled> {
        let Some((conv, x, y)) = convolution(op) else { return Ok(None) };
        let (layout, out) = (packing.layout(), [y[0], y[1]]);
        Ok(Some(match packing {
            _ if !conv.depthwise => Self::Conv(simd::Packed::read(layout, &conv, &x, y, source)?),
            Packing::Pairs => Self::Chained(chained_depthwise::Packed::read(&conv, &x, out, source)?),
            _ => Self::Depthwise(simd_depthwise::Packed::read(layout.form.own(), &conv, &x, out, source)?),
        }))
    }

    /// Parts, at most so many, in which threads had better share the channels of the output and not its rows.
    pub(crate) fn parts(&self, most: usize) -> Option<usize> {
        match self {
            Self::Conv(packed) => packed.parts(most),
            Self::Depthwise(_) | Self::Chained(_) => None,
        }
    }

    /// The output channels of one of so many [`Self::parts`].
    pub(crate) fn channels(&self, part: [usize; 2]) -> Range<usize> {
        match self {
            Self::Conv(packed) => packed.channels(part),
            Self::Depthwise(_) | Self::Chained(_) => unreachable!("channels are not shared"),
        }
    }

    /// Whether rows of the output are computed one by one, so that some of them cost no more alone.
    pub(crate) const fn by_rows(&self) -> bool {
        matches!(self, Self::Conv(packed) if packed.by_rows())
    }

    /// Whether all inputs of a part are staged before anything is computed.
    pub(crate) const fn stages_first(&self) -> bool {
        matches!(self, Self::Conv(packed) if packed.memory() > 0)
    }

    /// Bytes of memory that a part of a run needs.
    pub(crate) const fn memory(&self) -> usize {
        match self {
            Self::Conv(packed) => packed.memory(),
            Self::Depthwise(packed) => packed.memory(),
            Self::Chained(packed) => packed.memory(),
        }
    }
}

/// Rows of a convolution's output.
pub(crate) struct Rows {
    /// Those that are made.
    pub(crate) made: Range<usize>,
    /// Those that are made one after the other with the same scratch; of [`Packed::by_rows`] more than one time.
    pub(crate) of: Range<usize>,
    /// Whether the scratch holds what all of them read.
    pub(crate) staged: bool,
}

/// Some rows and channels of a convolution's output.
pub(crate) struct Part<'a> {
    pub(crate) packed: &'a Packed,
    /// The packed rows of the network.
    pub(crate) weights: &'a [Row],
    /// What is read, but for rows above that no row of the output asks for; of a dense layer [`flat`].
    pub(crate) x: Input<'a>,
    /// How many rows are left out.
    pub(crate) above: usize,
    /// With the bytes of these rows and channels.
    pub(crate) y: Output<'a>,
    pub(crate) rows: Rows,
    /// All of them, or those of [`Packed::channels`].
    pub(crate) channels: Range<usize>,
    /// At least [`Packed::memory`].
    pub(crate) scratch: &'a mut [u8],
    pub(crate) registers: &'a mut Registers,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(mut self, simd: V) {
        let (weights, rows, x) = (self.weights, self.rows, (&self.x, self.above));
        match self.packed {
            Packed::Conv(packed) => {
                let memory = (self.scratch, self.registers);
                packed.run(simd, weights, x, &mut self.y, (rows, self.channels), memory);
            }
            Packed::Depthwise(packed) => packed.run(simd, weights, x, &mut self.y, rows.made, self.scratch),
            #[cfg(target_arch = "aarch64")]
            Packed::Chained(packed) => {
                let neon = simd.plain_neon().expect("what is packed for plain NEON runs there");
                packed.run(neon, weights, x, &mut self.y, rows.made, self.scratch);
            }
            #[cfg(not(target_arch = "aarch64"))]
            Packed::Chained(_) => unreachable!("what is packed for plain NEON runs there"),
        }
    }
}
