//! Flash images in real firmware under QEMU. Needs a compiler for the target and QEMU; without them these tests fail and
//! name the packages, unless `INTACT_SKIP_EMULATOR=1`, which makes each of them say that it was skipped.

mod accidents;
mod agreement;
mod refusals;
mod sample;

use firmware_sim::{Board, BuildOptions, Error, Firmware, Placement, Report, RunOptions};
use std::ops::ControlFlow;

/// Whether emulator tests are wanted.
fn wanted() -> bool {
    let skip = std::env::var_os("INTACT_SKIP_EMULATOR").is_some_and(|v| v == "1");
    if skip {
        eprintln!("skipped: INTACT_SKIP_EMULATOR=1");
    }
    !skip
}

/// Builds `image` for `board` as the command line does.
fn build(image: &[u8], board: &str, placement: Placement) -> Result<Firmware, Error> {
    build_with(image, board, placement, &BuildOptions::default())
}

fn build_with(image: &[u8], board: &str, placement: Placement, options: &BuildOptions) -> Result<Firmware, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.intact");
    std::fs::write(&path, image).unwrap();
    Firmware::build(&path, &Board::load(board).unwrap(), placement, options)
}

fn run(firmware: &Firmware, pictures: &[Vec<u8>], options: &RunOptions) -> Result<Report, Error> {
    firmware.run(pictures, options, |_| ControlFlow::Continue(()))
}

/// The value, or the message that its error has for people.
#[track_caller]
fn expect<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
