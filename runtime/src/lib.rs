//! FLASH IMAGE -> LOGITS: runs a quantized CNN in integers, on anything from a Cortex-M0 to a workstation.
//!
//! *Enters*: the bytes of a `model.intact` (`docs/flash-image.md`), an arena, a picture. *Leaves*: the logits, the same
//! integers on every core and from every kernel (`docs/arithmetic.md`). *Refused*: bytes that are not a sound image
//! ([`ImageError`]), an arena that is too small ([`SessionError`]), a picture of another size ([`RunError`]).
//!
//! No standard library, no allocation, no dependency; with the feature `std`, `host` runs on a workstation or a Raspberry Pi
//! with memory of its own, packed weights and vector instructions. `unsafe` is denied but in modules of one instruction set, and
//! in two of the host's that share memory. [`image`] holds the format, its one check and what
//! can be read after it; [`arith`] the arithmetic; [`kernels`] the ops; [`exec`] the run; [`observe`] what may watch it.
//!
//! ```
//! use runtime::{Image, Session};
//!
//! # const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/image_check/zoo.intact");
//! # let file = std::fs::read(FILE)?;
//! let image = Image::check(&file)?;
//! let mut arena = vec![0; image.arena_bytes()]; // firmware: a static array, see `image::arena_bytes`
//! let mut session = Session::new(image, &mut arena)?;
//!
//! let picture = vec![128; image.input().len()]; // H W C pixels
//! let logits = session.run_pixels(&picture)?;
//! let class = logits.argmax();
//! println!("{:?} with logit {}", image.label(class), logits.integer(class));
//! # assert_eq!(logits.len(), 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod arith;
pub mod exec;
#[cfg(any(test, feature = "std"))]
pub mod host;
pub mod image;
pub mod kernels;
pub mod observe;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use exec::{Output, RunError, Session, SessionError};
pub use image::{Image, ImageError};
pub use kernels::Kernels;
