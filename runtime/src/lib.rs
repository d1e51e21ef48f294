//! FLASH IMAGE -> LOGITS.
#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod arith;
pub mod exec;
pub mod image;
pub mod kernels;
pub mod observe;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use exec::{Output, RunError, Session, SessionError};
pub use image::{Image, ImageError};
pub use kernels::Kernels;
