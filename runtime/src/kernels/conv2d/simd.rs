//! The same integers with the host's vector instructions: an implicit matrix product, in which the inputs of an output pixel
//! are read where they lie in the staged image, row of taps by row of taps, and multiplied with weights packed beforehand.

use super::{Conv2d, Input, Output, packed::Rows};
use crate::kernels::simd::{
    Ends, Form, LANES, Registers, Row, Simd,
    packing::{Layout, Sink, Source, Spoiled, TILE},
    panel::{Panel, Piece, Pixels, offsets, pack_panel},
    stage::{Stage, Staging},
};
use core::ops::Range;

/// A convolution with its weights packed.
#[derive(Debug)]
pub(crate) struct Packed {
    stage: Stage,
    panels: Vec<Panel>,
    /// Ends of channels that can be computed without those behind, ascending; the last one is their number.
    cuts: Vec<usize>,
    /// Whether it is weights that cost: more of them than inputs or outputs, and too few pixels for them to be used often.
    heavy: bool,
    /// Pixels in a row of the output.
    out_w: usize,
    /// Whether rows follow each other in the input as in the output, and so are one.
    one_row: bool,
    /// Bytes of input between two rows, two pixels of the output.
    step: [usize; 2],
    /// Rows of weights of a tile register; none where they do not pay.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86 has tile registers"))]
    group: Option<usize>,
}

/// Pixels in a row, and rows of weights, from which on tile registers are faster.
const TILED: [usize; 2] = [4, 20];

/// What shapes alone say.
struct Plan {
    form: Form,
    stage: Stage,
    /// Rows that stand together.
    group: usize,
    tiled: bool,
    /// Neighbouring inputs of an output pixel, of the first group of channels.
    pieces: Vec<Piece>,
    /// Weights of an output channel.
    row_len: usize,
    /// Bytes from the inputs of a group of channels to those of the next.
    group_bytes: usize,
    /// The output channels of each panel, and the group of channels they belong to.
    panels: Vec<(usize, Range<usize>)>,
}

impl Plan {
    fn new(layout: Layout, conv: &Conv2d, x: &Input, [out_h, out_w, outputs]: [usize; 3]) -> Self {
        let window = &conv.window;
        let [kernel_h, kernel_w] = window.kernel;
        let (in_group, out_group) = (x.shape[2] / conv.groups, outputs / conv.groups);
        // Neighbouring taps of all channels lie side by side, and are one piece.
        let joined = window.dilation[1] == 1 && conv.groups == 1;
        let taps_in_piece = if joined { kernel_w } else { 1 };
        let len = taps_in_piece * in_group;
        let form = layout.form;
        let rows = len.div_ceil(form.row_elements());
        // As few groups of rows as there can be, of one size.
        let tiled =
            layout.max_group > 1 && out_w >= TILED[0] && rows * kernel_h * (kernel_w / taps_in_piece) >= TILED[1];
        let group = if tiled { rows.div_ceil(rows.div_ceil(layout.max_group)) } else { form.unit() };
        let whole_runs = len.is_multiple_of(group * form.row_elements());
        let stage = Stage::new(form, x, window, [out_h, out_w], whole_runs);
        let pieces = (0..kernel_h)
            .flat_map(|r| (0..kernel_w).step_by(taps_in_piece).map(move |s| (r, s)))
            .map(|(r, s)| Piece {
                offset: r * window.dilation[0] * stage.row_bytes() + s * window.dilation[1] * stage.pixel_bytes(),
                first: (r * kernel_w + s) * in_group,
                len,
            })
            .collect();
        let panels = (0..conv.groups).flat_map(|i| {
            let panels = split(i * out_group..(i + 1) * out_group, layout.max_blocks);
            panels.into_iter().map(move |channels| (i, channels))
        });
        Self {
            form,
            stage,
            group,
            tiled,
            pieces,
            row_len: kernel_h * kernel_w * in_group,
            group_bytes: in_group * form.element_bytes(),
            panels: panels.collect(),
        }
    }

    /// For each panel its output channels, its inputs, and where rows of them begin.
    fn each(&self) -> impl Iterator<Item = (Range<usize>, Vec<Piece>, Vec<usize>)> {
        self.panels.iter().map(|(i, channels)| {
            let moved = |piece: &Piece| Piece { offset: piece.offset + i * self.group_bytes, ..*piece };
            let pieces: Vec<Piece> = self.pieces.iter().map(moved).collect();
            let offsets = offsets((self.form, self.group), &pieces);
            (channels.clone(), pieces, offsets)
        })
    }
}

impl Packed {
    /// Packs the weights of a convolution from `x`, whose bytes do not matter, to `H W K` integers.
    pub(crate) fn pack(layout: Layout, conv: &Conv2d, x: &Input, y: [usize; 3], sink: &mut Sink) {
        let plan = Plan::new(layout, conv, x, y);
        let weights = (&conv.weights, plan.row_len);
        for (channels, pieces, offsets) in plan.each() {
            pack_panel((plan.form, plan.group), x, weights, channels, (&pieces, &offsets), sink);
        }
    }

    /// Reads what [`Self::pack`] has packed.
    pub(crate) fn read(
        layout: Layout,
        conv: &Conv2d,
        x: &Input,
        y: [usize; 3],
        source: &mut Source,
    ) -> Result<Self, Spoiled> {
        let plan = Plan::new(layout, conv, x, y);
        let form = (plan.form, plan.group);
        let panels =
            plan.each().map(|(channels, _, offsets)| Panel::read(form, &conv.weights, channels, &offsets, source));
        let panels = panels.collect::<Result<Vec<_>, _>>()?;
        let (stage, out_w, stride) = (plan.stage, y[1], conv.window.stride);
        let step = [stride[0] * stage.row_bytes(), stride[1] * stage.pixel_bytes()];
        let one_row = step[0] == out_w * step[1];
        let of_panel = |panel: &Panel| if plan.tiled { panel.pairs() } else { vec![panel.channels().end] };
        let cuts = panels.iter().flat_map(of_panel).collect();
        let most = x.shape.iter().product::<usize>().max(y.iter().product());
        let heavy = y[0] * y[1] <= TILE && y[2] * plan.row_len > most;
        Ok(Self { stage, panels, cuts, heavy, out_w, one_row, step, group: plan.tiled.then_some(plan.group) })
    }

    /// Parts, at most so many, in which threads had better share the channels of the output and not its rows: each then reads all inputs
    /// and some weights. None where those are few.
    pub(crate) fn parts(&self, most: usize) -> Option<usize> {
        let parts = most.min(self.cuts.len());
        (self.heavy && parts > 1).then_some(parts)
    }

    /// The channels of one of so many [`Self::parts`].
    pub(crate) fn channels(&self, [part, parts]: [usize; 2]) -> Range<usize> {
        let cut =
            |part: usize| part.checked_sub(1).map_or(0, |part| self.cuts[self.cuts.len() * (part + 1) / parts - 1]);
        cut(part)..cut(part + 1)
    }

    /// Whether rows of the output are computed one by one, so that some of them cost no more alone.
    pub(crate) const fn by_rows(&self) -> bool {
        !self.one_row
    }

    /// Bytes of memory that a run needs.
    pub(crate) const fn memory(&self) -> usize {
        self.stage.bytes()
    }

    /// Writes `channels` of rows `rows` of the convolution's output, which is all of `y.bytes`: all channels, or those of some
    /// [`Self::parts`]. Of the input so many rows above are left out. `weights` are the packed rows of the network.
    #[inline(always)]
    pub(crate) fn run<V: Simd>(
        &self,
        simd: V,
        weights: &[Row],
        (x, above): (&Input, usize),
        y: &mut Output,
        (rows, channels): (Rows, Range<usize>),
        (memory, _registers): (&mut [u8], &mut Registers),
    ) {
        let staging = if rows.staged {
            Staging::Done
        } else if rows.made == rows.of {
            Staging::InOrder
        } else {
            // Of the rows at both ends another thread has one, and had read what lay where those go that are made first.
            let (row, len) = (x.shape[1] * x.shape[2], x.bytes.len());
            simd.fetch::<true>(y.bytes);
            simd.fetch::<false>(&x.bytes[..row.min(len)]);
            simd.fetch::<false>(&x.bytes[len.saturating_sub(row)..]);
            Staging::FirstLast
        };
        let staged = self.stage.below(above).run(x, self.stage.rows(&rows.of), memory, staging);
        let staged = &staged.bytes[(rows.made.start - rows.of.start) * self.step[0]..];
        let rows = rows.made;
        let ends = Ends::new(y.zero_point, y.clamp);
        let out = if self.one_row { [1, rows.len() * self.out_w] } else { [rows.len(), self.out_w] };
        #[cfg(target_arch = "x86_64")]
        let tiles = self
            .group
            .zip(simd.matrix())
            .map(|(group, amx)| _registers.configure(amx, out[1].div_ceil(out[1].div_ceil(TILE)), group));
        let asked_for = |panel: &&Panel| panel.channels().start < channels.end && channels.start < panel.channels().end;
        for panel in self.panels.iter().filter(asked_for) {
            #[cfg(target_arch = "x86_64")]
            if let Some(tiles) = &tiles {
                let mut y = Pixels { bytes: y.bytes, channels: channels.clone(), ends };
                panel.run_tiled(simd, tiles, weights, (staged, self.step, out), &mut y);
                continue;
            }
            for (row, bytes) in y.bytes.chunks_exact_mut(out[1] * channels.len()).enumerate() {
                let x = &staged[row * self.step[0]..];
                panel.run(
                    simd,
                    weights,
                    (x, self.step[1], out[1]),
                    &mut Pixels { bytes, channels: channels.clone(), ends },
                );
            }
        }
    }
}

/// Ranges of channels, each as many blocks as the others or one less, at most `max_blocks`.
fn split(channels: Range<usize>, max_blocks: usize) -> Vec<Range<usize>> {
    let blocks = channels.len().div_ceil(LANES);
    let panels = blocks.div_ceil(max_blocks);
    let start = |panel: usize| (channels.start + blocks * panel / panels * LANES).min(channels.end);
    (0..panels).map(|panel| start(panel)..start(panel + 1)).collect()
}
