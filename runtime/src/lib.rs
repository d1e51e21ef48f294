//! FLASH IMAGE -> LOGITS.
#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod arith;
pub mod image;
pub mod kernels;
