//! What every run shares: the input is stored, the ops follow each other, an observer watches. Enters: an image, its arena,
//! a picture, and a way to run one op. Leaves: the logits. Refuses: a picture of another size, integers outside the
//! input's encoding.

use super::{Output, RunError};
use crate::{
    arith,
    image::{Image, Op, Tensor},
    observe::Observer,
};

/// An image and at least [`Image::arena_bytes`] for a run of it.
pub(crate) struct Run<'i, 'm> {
    pub(crate) image: Image<'i>,
    pub(crate) arena: &'m mut [u8],
}

impl<'i, 'm> Run<'i, 'm> {
    /// Runs a picture: `H W C` pixels.
    pub(crate) fn pixels(
        mut self,
        pixels: &[u8],
        observer: &mut impl Observer,
        step: impl FnMut(&Op, &mut [u8]),
    ) -> Result<Output<'i, 'm>, RunError> {
        let tables = self.image.input_tables();
        store(tables, pixels, self.input(pixels)?);
        Ok(self.ops(observer, step))
    }

    /// Runs integers that are already what the input tensor stores.
    pub(crate) fn quantized(
        mut self,
        integers: &[u8],
        observer: &mut impl Observer,
        step: impl FnMut(&Op, &mut [u8]),
    ) -> Result<Output<'i, 'm>, RunError> {
        let encoding = self.image.input().repr;
        let (low, high) = arith::limits(encoding.bits, encoding.signed);
        let input = self.input(integers)?;
        for (index, (&byte, stored)) in integers.iter().zip(input).enumerate() {
            let found = arith::widen(byte, encoding.signed);
            if !(low..=high).contains(&found) {
                return Err(RunError::InputValue { index, found, expected: [low, high] });
            }
            *stored = byte;
        }
        Ok(self.ops(observer, step))
    }

    /// The input tensor's place, if `given` has its length.
    pub(crate) fn input(&mut self, given: &[u8]) -> Result<&mut [u8], RunError> {
        let range = self.image.input().range();
        if given.len() != range.len() {
            return Err(RunError::InputLength { found: given.len(), expected: range.len() });
        }
        Ok(&mut self.arena[range])
    }

    fn ops(self, observer: &mut impl Observer, mut step: impl FnMut(&Op, &mut [u8])) -> Output<'i, 'm> {
        observer.input(self.tensor(self.image.input()));
        for op in self.image.ops() {
            observer.before(&op);
            step(&op, self.arena);
            observer.after(&op, self.tensor(op.output()));
        }
        self.output()
    }

    /// The output tensor, when all ops have run.
    pub(crate) fn output(self) -> Output<'i, 'm> {
        let output = self.image.output();
        Output::new(output, &self.arena[output.range()])
    }

    fn tensor(&self, tensor: Tensor<'i>) -> Output<'i, '_> {
        Output::new(tensor, &self.arena[tensor.range()])
    }
}

/// Stores pixels as the input tensor's integers, with a table for each channel.
#[inline(always)]
pub(crate) fn store(tables: &[[u8; 256]], pixels: &[u8], input: &mut [u8]) {
    // Colours on a host, without a loop over them.
    #[cfg(any(test, feature = "std"))]
    if let [red, green, blue] = tables {
        for ([r, g, b], stored) in pixels.as_chunks().0.iter().zip(input.as_chunks_mut().0) {
            *stored = [red[usize::from(*r)], green[usize::from(*g)], blue[usize::from(*b)]];
        }
        return;
    }
    for (pixels, input) in pixels.chunks_exact(tables.len()).zip(input.chunks_exact_mut(tables.len())) {
        for ((table, &pixel), byte) in tables.iter().zip(pixels).zip(input) {
            *byte = table[usize::from(pixel)];
        }
    }
}
