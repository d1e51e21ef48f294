//! The command line: one verb per file in `cmd`. Enters: arguments and files. Leaves: results on stdout, progress and notes
//! on stderr, files written under a temporary name and renamed. Refused: bad arguments and bad files, with the file, the
//! place, what was found and what was expected.
//!
//! Exit codes: 0 done, 1 a check failed (a gap over its tolerance, a model over its budget), 2 could not do it.

mod cmd;
mod foreign;
mod gap;
mod integers;
mod memory;
mod model;
#[cfg(feature = "train")]
mod predicted;
mod progress;
mod terminal;
#[cfg(feature = "train")]
mod training;

use clap::Parser;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a verb ended, errors aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit code 0.
    Done,
    /// Exit code 1: everything ran, and a check said no.
    CheckFailed,
}

fn main() -> ExitCode {
    let arguments = cmd::Arguments::parse();
    match cmd::run(arguments) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::CheckFailed) => ExitCode::from(1),
        // A reader that has seen enough (`intact inspect m.intact | head`) is no failure.
        Err(error) if terminal::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", terminal::whole(&error));
            ExitCode::from(2)
        }
    }
}
