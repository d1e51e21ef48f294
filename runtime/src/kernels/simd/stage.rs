//! Inputs as the micro-kernel reads them. Enters: a tensor in the arena. Leaves: the same with its padding around it, in the
//! form that an instruction set wants: bytes without or with a sign, the top bit of others flipped, or `x - zx` as i16. Where a
//! tensor is like that already, nothing is copied.

use super::Form;
use crate::{
    arith::widen,
    kernels::{Input, Window},
};
use core::ops::Range;

/// Bytes behind the last staged one that may be read: runs end on multiples of four bytes, and tile registers are filled
/// by rows of up to 64.
pub(crate) const SLACK: usize = 64;

/// How the inputs of a window are staged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    form: Form,
    /// Rows, pixels in a row.
    size: [usize; 2],
    padding: [usize; 2],
    /// Bytes of a pixel.
    pixel: usize,
    in_place: bool,
    /// Rows between two rows of the output; rows that one of them reads.
    stride: usize,
    reach: usize,
}

/// Staged inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged<'a> {
    /// Row after row, and at least what the runs need behind.
    pub(crate) bytes: &'a [u8],
}

/// How rows are staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staging {
    /// They are there.
    Done,
    InOrder,
    /// The first one last, for which another core may have to be asked.
    FirstLast,
}

impl Staged<'_> {
    /// The byte that stands for 0.0 among staged bytes.
    pub(crate) const fn padding_byte(form: Form, x: &Input) -> u8 {
        x.zero_point as u8 ^ flip(form, x)
    }
}

/// What gives a stored byte a sign, or takes it.
const fn flip(form: Form, x: &Input) -> u8 {
    if x.signed == form.is_signed() { 0 } else { 0x80 }
}

impl Stage {
    /// For a window that slides over `x` and makes `out` rows and pixels in a row. `whole_runs` says that no run is read beyond
    /// its last input.
    pub(crate) fn new(form: Form, x: &Input, window: &Window, out: [usize; 2], whole_runs: bool) -> Self {
        let [h, w, channels] = x.shape;
        let size = [0, 1]
            .map(|axis| (out[axis] - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1);
        let fits = window.padding == [0; 2] && size[0] <= h && size[1] <= w;
        let in_place = form != Form::Words && flip(form, x) == 0 && fits && whole_runs;
        let size = if in_place { [h, w] } else { size };
        let reach = (window.kernel[0] - 1) * window.dilation[0] + 1;
        let pixel = channels * form.element_bytes();
        Self { form, size, padding: window.padding, pixel, in_place, stride: window.stride[0], reach }
    }

    /// The same for inputs of which the first `rows` rows are left out; those that are asked for are not among them.
    pub(crate) const fn below(self, rows: usize) -> Self {
        let [top, left] = self.padding;
        Self { padding: [top + rows, left], ..self }
    }

    /// Bytes of a pixel.
    pub(crate) const fn pixel_bytes(&self) -> usize {
        self.pixel
    }

    /// Bytes of a row.
    pub(crate) const fn row_bytes(&self) -> usize {
        self.size[1] * self.pixel
    }

    /// The staged rows that rows `out` of the output read.
    pub(crate) const fn rows(&self, out: &Range<usize>) -> Range<usize> {
        out.start * self.stride..(out.end - 1) * self.stride + self.reach
    }

    /// Bytes of memory that staging takes at most.
    pub(crate) const fn bytes(&self) -> usize {
        if self.in_place { 0 } else { self.size[0] * self.row_bytes() + SLACK }
    }

    /// Stages rows `rows` of the padded `x` into `memory`, which has at least [`Self::bytes`].
    #[inline(always)]
    pub(crate) fn run<'a>(
        &self,
        x: &Input<'a>,
        rows: Range<usize>,
        memory: &'a mut [u8],
        staged: Staging,
    ) -> Staged<'a> {
        if self.in_place {
            return Staged { bytes: &x.bytes[self.place(rows.start) * self.row_bytes()..] };
        }
        let memory = &mut memory[..rows.len() * self.row_bytes() + SLACK];
        let late = match staged {
            Staging::Done => return Staged { bytes: memory },
            Staging::InOrder => 0,
            Staging::FirstLast => 1,
        };
        for row in 0..rows.len() {
            let row = if row + late < rows.len() { row + late } else { row + late - rows.len() };
            self.row(x, rows.start + row, &mut memory[row * self.row_bytes()..][..self.row_bytes()]);
        }
        Staged { bytes: memory }
    }

    /// Where a row lies that is read in place.
    pub(crate) const fn place(&self, row: usize) -> usize {
        row - self.padding[0]
    }

    /// Rows that an output row reads, of a ring in which they take turns; none where they are read in place.
    pub(crate) const fn ring(&self) -> Option<usize> {
        if self.in_place { None } else { Some(self.reach) }
    }

    /// Bytes of memory that the rows of a [`Self::ring`] take.
    pub(crate) const fn ring_bytes(&self) -> usize {
        if self.in_place { 0 } else { self.reach * self.row_bytes() }
    }

    /// Stages a row of the padded `x` into as many bytes.
    #[inline(always)]
    pub(crate) fn row(&self, x: &Input, row: usize, memory: &mut [u8]) {
        match self.form {
            Form::Words if x.signed => {
                self.fill(x, row, memory, [0; 2], |byte| ((widen(byte, true) - x.zero_point) as i16).to_le_bytes());
            }
            Form::Words => {
                self.fill(x, row, memory, [0; 2], |byte| ((widen(byte, false) - x.zero_point) as i16).to_le_bytes());
            }
            form => {
                let flip = flip(form, x);
                self.fill(x, row, memory, [Staged::padding_byte(form, x)], |byte| [byte ^ flip]);
            }
        }
    }

    #[inline(always)]
    fn fill<const BYTES: usize>(
        &self,
        x: &Input,
        row: usize,
        memory: &mut [u8],
        nothing: [u8; BYTES],
        element: impl Fn(u8) -> [u8; BYTES],
    ) {
        let [h, w, channels] = x.shape;
        let [top, left] = self.padding;
        let inside = w.min(self.size[1].saturating_sub(left)) * channels;
        let (memory, _) = memory.as_chunks_mut::<BYTES>();
        let Some(row) = row.checked_sub(top).filter(|&row| row < h) else {
            memory.fill(nothing);
            return;
        };
        let (before, rest) = memory.split_at_mut((left * channels).min(memory.len()));
        let (image, after) = rest.split_at_mut(inside);
        before.fill(nothing);
        for (staged, &byte) in image.iter_mut().zip(&x.bytes[row * w * channels..]) {
            *staged = element(byte);
        }
        after.fill(nothing);
    }
}
