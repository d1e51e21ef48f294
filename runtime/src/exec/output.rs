//! What the network, or one op, wrote. Enters: a tensor's record and its bytes in the arena. Leaves: integers, real
//! values, the best classes.

use crate::{arith, image::Tensor};
use core::cmp::Reverse;

/// A tensor with its integers, until the session runs again.
#[derive(Clone, Copy, Debug)]
pub struct Output<'i, 'm> {
    tensor: Tensor<'i>,
    bytes: &'m [u8],
}

impl<'i, 'm> Output<'i, 'm> {
    pub(super) fn new(tensor: Tensor<'i>, bytes: &'m [u8]) -> Self {
        Self { tensor, bytes }
    }

    /// Name, shape and encoding.
    pub const fn tensor(&self) -> &Tensor<'i> {
        &self.tensor
    }

    /// The stored bytes, `H W C`.
    pub const fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// Elements, at least one.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The integer of element `i`, which is below [`Self::len`].
    pub fn integer(&self, i: usize) -> i32 {
        arith::widen(self.bytes[i], self.tensor.repr.signed)
    }

    /// The real value of element `i`, which is below [`Self::len`]: `(integer - zero point) * scale`.
    pub fn real(&self, i: usize) -> f32 {
        (self.integer(i) - self.tensor.repr.zero_point) as f32 * self.tensor.repr.scale
    }

    /// Index of the largest element; of several equal ones the first.
    pub fn argmax(&self) -> usize {
        (0..self.len()).min_by_key(|&i| Reverse(self.integer(i))).unwrap_or_default()
    }

    /// Fills `best` with the indices of the largest elements, largest first, of equal ones the first first. Returns the
    /// part that was filled, shorter than `best` only if there are fewer elements.
    pub fn top<'b>(&self, best: &'b mut [usize]) -> &'b [usize] {
        let mut filled = 0;
        for i in 0..self.len() {
            // Behind those that are at least as large, and whoever no longer fits drops out at the end.
            let place =
                best[..filled].iter().position(|&other| self.integer(other) < self.integer(i)).unwrap_or(filled);
            if place < best.len() {
                filled = (filled + 1).min(best.len());
                best.copy_within(place..filled - 1, place + 1);
                best[place] = i;
            }
        }
        &best[..filled]
    }
}
