//! FLASH IMAGE -> LOGITS.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
pub mod image;
