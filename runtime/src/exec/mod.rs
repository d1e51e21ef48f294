//! A run of the network. Enters: a checked image, an arena, a picture. Leaves: the logits. Refuses: an arena that is too
//! small, a picture of another size, integers outside the input's encoding.

mod error;
mod output;
mod step;

pub use error::{RunError, SessionError};
pub use output::Output;

use crate::{
    arith,
    image::{Image, Tensor},
    kernels::Kernels,
    observe::Observer,
};

/// An image with the memory that it runs in.
#[derive(Debug)]
pub struct Session<'i, 'm> {
    image: Image<'i>,
    arena: &'m mut [u8],
    kernels: Kernels,
}

impl<'i, 'm> Session<'i, 'm> {
    /// Joins an image and an arena of at least [`Image::arena_bytes`]. The arena's content does not matter, nor its
    /// alignment; an arena that starts at a multiple of 16 is faster on some cores.
    ///
    /// # Errors
    /// [`SessionError`] when the arena is too small.
    pub fn new(image: Image<'i>, arena: &'m mut [u8]) -> Result<Self, SessionError> {
        let (found, expected) = (arena.len(), image.arena_bytes());
        match arena.get_mut(..expected) {
            Some(arena) => Ok(Self { image, arena, kernels: Kernels::default() }),
            None => Err(SessionError::Arena { found, expected }),
        }
    }

    /// The same session with other kernels; the integers that come out are the same.
    pub fn with_kernels(mut self, kernels: Kernels) -> Self {
        self.kernels = kernels;
        self
    }

    /// The image.
    pub const fn image(&self) -> Image<'i> {
        self.image
    }

    /// Runs a picture: `H W C` pixels, one byte for each channel (C = 3: red, green, blue), of the input tensor's size.
    ///
    /// # Errors
    /// [`RunError::InputLength`].
    pub fn run_pixels(&mut self, pixels: &[u8]) -> Result<Output<'i, '_>, RunError> {
        self.run_pixels_observed(pixels, &mut ())
    }

    /// [`Self::run_pixels`], watched.
    ///
    /// # Errors
    /// [`RunError::InputLength`].
    pub fn run_pixels_observed(
        &mut self,
        pixels: &[u8],
        observer: &mut impl Observer,
    ) -> Result<Output<'i, '_>, RunError> {
        let tables = self.image.input_tables();
        let input = self.input(pixels)?;
        for (pixels, input) in pixels.chunks_exact(tables.len()).zip(input.chunks_exact_mut(tables.len())) {
            for ((table, &pixel), byte) in tables.iter().zip(pixels).zip(input) {
                *byte = table[usize::from(pixel)];
            }
        }
        Ok(self.run(observer))
    }

    /// Runs integers that are already what the input tensor stores, `H W C`.
    ///
    /// # Errors
    /// [`RunError::InputLength`], [`RunError::InputValue`].
    pub fn run_quantized(&mut self, integers: &[u8]) -> Result<Output<'i, '_>, RunError> {
        self.run_quantized_observed(integers, &mut ())
    }

    /// [`Self::run_quantized`], watched.
    ///
    /// # Errors
    /// [`RunError::InputLength`], [`RunError::InputValue`].
    pub fn run_quantized_observed(
        &mut self,
        integers: &[u8],
        observer: &mut impl Observer,
    ) -> Result<Output<'i, '_>, RunError> {
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
        Ok(self.run(observer))
    }

    /// The input tensor's place, if `given` has its length.
    fn input(&mut self, given: &[u8]) -> Result<&mut [u8], RunError> {
        let range = self.image.input().range();
        if given.len() != range.len() {
            return Err(RunError::InputLength { found: given.len(), expected: range.len() });
        }
        Ok(&mut self.arena[range])
    }

    fn run(&mut self, observer: &mut impl Observer) -> Output<'i, '_> {
        observer.input(self.tensor(self.image.input()));
        for op in self.image.ops() {
            observer.before(&op);
            step::run(self.kernels, &op, self.arena);
            observer.after(&op, self.tensor(op.output()));
        }
        self.tensor(self.image.output())
    }

    fn tensor(&self, tensor: Tensor<'i>) -> Output<'i, '_> {
        Output::new(tensor, &self.arena[tensor.range()])
    }
}

#[cfg(test)]
mod tests;
