//! Scratch as words. Enters: bytes. Leaves: the words that lie in them at multiples of 4, so many at a time. Refuses nothing.

#![allow(unsafe_code, reason = "safe Rust has no way from bytes to words")]

/// Arrays of words in `scratch`: all that fit when it starts at a multiple of 4, else perhaps one less.
pub(in crate::kernels) fn words<const N: usize>(scratch: &mut [u8]) -> &mut [[u32; N]] {
    // SAFETY: every pattern of bits is a u32, and the slice that comes back is exclusive as the one that went in.
    unsafe { scratch.align_to_mut().1 }
}
