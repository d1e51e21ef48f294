//! RUNTIME ON A BOARD, EMULATED OR REAL -> REPORT.
//!
//! *Enters*: a flash image, a [`Board`], pictures. *Leaves*: a [`budget::Verdict`] (does it fit, with all numbers), a linked
//! program ([`Firmware`], an ELF file) and a [`Report`]: logits of each picture, CRC-32 of each op's output, retired
//! instructions, stack, sections. *Refused*: unknown boards and board files with unknown keys, unsound images, models that do
//! not fit (before anything is compiled or run), machines without compiler or QEMU (naming the package to install), and
//! firmware that panics, faults, hangs or overruns its stack.
//!
//! ```no_run
//! use firmware_sim::{Board, Firmware, Placement, RunOptions};
//! use std::{ops::ControlFlow, path::Path};
//! let board = Board::load("stm32f446re")?;
//! let firmware = Firmware::build(Path::new("model.intact"), &board, Placement::Emulator, &Default::default())?;
//! let black = vec![0; 32 * 32 * 3];
//! let options = RunOptions { count: true, ..RunOptions::default() };
//! let report = firmware.run(&[black], &options, |_| ControlFlow::Continue(()))?;
//! println!("{:?} after {:?} instructions", report.inferences[0].logits, report.inferences[0].instructions);
//! # Ok::<(), firmware_sim::Error>(())
//! ```
//!
//! The firmware itself is `firmware-sim/firmware`, a crate of its own for the bare-metal target. What it and this library say
//! to each other is `protocol.rs`, which both compile. `docs/boards.md` is the manual.

pub mod board;
pub mod budget;
mod emulator;
mod error;
mod firmware;
mod process;
#[doc(hidden)]
pub mod protocol;
mod sections;
mod toolchain;

pub use board::{Board, boards};
pub use emulator::{Inference, Report, RunOptions};
pub use error::Error;
pub use firmware::{BuildOptions, Firmware, Placement};
pub use sections::Sections;
pub use toolchain::Toolchain;
