//! A run of the network. Enters: a checked image, an arena, a picture. Leaves: the logits. Refuses: an arena that is too
//! small, a picture of another size, integers outside the input's encoding.

mod drive;
mod error;
mod output;
pub(crate) mod step;

pub use error::{RunError, SessionError};
pub use output::Output;

pub(crate) use drive::Run;
#[cfg(any(test, feature = "std"))]
pub(crate) use drive::store;

use crate::{image::Image, kernels::Kernels, observe::Observer};

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
        let kernels = self.kernels;
        self.bound().pixels(pixels, observer, |op, arena| step::run(kernels, op, arena))
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
        let kernels = self.kernels;
        self.bound().quantized(integers, observer, |op, arena| step::run(kernels, op, arena))
    }

    fn bound(&mut self) -> Run<'i, '_> {
        Run { image: self.image, arena: self.arena }
    }
}

#[cfg(test)]
mod tests;
