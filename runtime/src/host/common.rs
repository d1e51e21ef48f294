//! Memory that the parts of an op have in common. Enters: the arena, or scratch. Leaves: what one part reads and what it writes, while
//! other parts have other bytes. Refused: what is not in it.
#![allow(
    unsafe_code,
    reason = "threads write parts of one piece of memory; which, the plan of the arena says and not a borrow"
)]

use std::{marker::PhantomData, ops::Range};

/// Bytes of which parts read and write some.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common<'a> {
    first: *mut u8,
    len: usize,
    bytes: PhantomData<&'a [u8]>,
}

// SAFETY: what is done with the bytes is up to the callers of the unsafe functions below.
unsafe impl Send for Common<'_> {}
// SAFETY: the same.
unsafe impl Sync for Common<'_> {}

impl<'a> Common<'a> {
    /// Of all those bytes.
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { first: bytes.as_mut_ptr(), len: bytes.len(), bytes: PhantomData }
    }

    /// `len` bytes from `first` on.
    ///
    /// # Safety
    /// They must be one piece of memory, borrowed mutably for `'a` by who lends them.
    pub(super) const unsafe fn lent(first: *mut u8, len: usize) -> Self {
        Self { first, len, bytes: PhantomData }
    }

    /// How many bytes there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes to read.
    ///
    /// # Safety
    /// Nobody may write them while what is returned is there.
    ///
    /// # Panics
    /// When they are not all there.
    pub(super) unsafe fn read(&self, range: Range<usize>) -> &'a [u8] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in the bytes, and not written.
        unsafe { std::slice::from_raw_parts(self.first.add(range.start), range.len()) }
    }

    /// Bytes to write.
    ///
    /// # Safety
    /// Nobody else may read or write them while what is returned is there.
    ///
    /// # Panics
    /// When they are not all there.
    pub(super) unsafe fn write(&self, range: Range<usize>) -> &'a mut [u8] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in the bytes, and nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}
