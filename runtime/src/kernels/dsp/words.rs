//! Scratch as words. Enters: bytes. Leaves: the slots that lie in them at a multiple of 4. Refuses nothing.

#![allow(unsafe_code, reason = "safe Rust has no way from bytes to words")]

use super::Slot;

/// The slots in `scratch`: all that fit when it starts at a multiple of 4, else perhaps one less.
pub(in crate::kernels) fn slots(scratch: &mut [u8]) -> &mut [Slot] {
    // SAFETY: every pattern of bits is a u32, and the slice that comes back is exclusive as the one that went in.
    unsafe { scratch.align_to_mut().1 }
}
