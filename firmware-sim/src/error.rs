//! What can go wrong between an image and a report. Each message names the file or program, what was found and what was
//! expected, and, where something has to be installed, the package.

use crate::budget::Verdict;
use std::path::PathBuf;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("{path}: cannot be written: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A board that nobody has described.
    #[error("unknown board `{name}`{} There are: {}; or the path of a board's TOML file",
        nearest.as_ref().map_or(".".into(), |n| format!(", did you mean `{n}`?")), known.join(", "))]
    UnknownBoard {
        /// As asked for.
        name: String,
        /// The known board whose name is most like it.
        nearest: Option<String>,
        /// All known boards.
        known: Vec<String>,
    },
    /// A board file that says something wrong.
    #[error("{file}: {reason}")]
    BoardFile {
        /// The file.
        file: String,
        /// Place, found and expected.
        reason: String,
    },
    /// A board that can only be linked for.
    #[error("board `{board}` cannot be emulated: {reason}")]
    NotEmulated {
        /// The board.
        board: String,
        /// Why.
        reason: String,
    },
    /// A file that is no sound flash image.
    #[error("{path}: {reason}", path = path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What the runtime's check says.
        reason: String,
    },
    /// A model larger than the board.
    #[error("{0}")]
    TooLarge(Verdict),
    /// Nothing on this machine compiles for the board.
    #[error(
        "nothing here compiles for {target}: {}.\nInstall one of\n  rustup target add {target}\n  apt-get install rustc-web cargo-web rust-web-src binutils-arm-none-eabi   (Debian 12; later: rustc cargo rust-src binutils-arm-none-eabi)",
        found.join("; ")
    )]
    NoToolchain {
        /// The target triple.
        target: String,
        /// What was looked at, and what it lacks.
        found: Vec<String>,
    },
    /// A program that is not installed.
    #[error(
        "`{program}` cannot be started: {source}; install the package {package} (Debian: apt-get install {package})"
    )]
    NoProgram {
        /// The program.
        program: String,
        /// The package that brings it.
        package: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The sources of the firmware are not where they were when this program was compiled.
    #[error("{path}: the sources of the firmware are not there; set INTACT_FIRMWARE to their folder (firmware-sim/firmware of the repository)", path = path.display())]
    NoSources {
        /// Where they were expected.
        path: PathBuf,
    },
    /// The compiler or the linker refused.
    #[error("building the firmware for {board} failed ({status}): {command}\n{output}")]
    Build {
        /// The board.
        board: String,
        /// How cargo ended.
        status: String,
        /// What was called.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A program that the compiler built, and that is not what was expected.
    #[error("{path}: {reason}", path = path.display())]
    Elf {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A picture of the wrong size.
    #[error("picture {index} has {found} bytes, the network takes {expected} (height x width x channels)")]
    Pixels {
        /// Which picture, from 0.
        index: usize,
        /// Its bytes.
        found: usize,
        /// The network's.
        expected: usize,
    },
    /// The firmware gave up, or the emulator did.
    #[error("the emulated firmware stopped after {done} of {images} pictures ({status}): {message}")]
    Stopped {
        /// Pictures with a result.
        done: usize,
        /// Pictures asked for.
        images: usize,
        /// How the emulator ended.
        status: String,
        /// What firmware and emulator printed.
        message: String,
    },
    /// Nothing came for too long.
    #[error(
        "the emulated firmware gave no result for {seconds} s after {done} of {images} pictures and was ended: {message}"
    )]
    Stalled {
        /// Pictures with a result.
        done: usize,
        /// Pictures asked for.
        images: usize,
        /// The limit.
        seconds: u64,
        /// What firmware and emulator printed.
        message: String,
    },
    /// The caller wanted no more.
    #[error("ended on request after {done} of {images} pictures")]
    Cancelled {
        /// Pictures with a result.
        done: usize,
        /// Pictures asked for.
        images: usize,
    },
    /// The firmware's answer is not what the protocol says.
    #[error("the firmware's reply, at byte {at}: {reason}")]
    Reply {
        /// From the start of the reply.
        at: usize,
        /// Found and expected.
        reason: String,
    },
    /// The emulator does not count as documented.
    #[error(
        "the emulator counts {found} instructions for a loop of {expected}: this QEMU's SysTick does not have the clock that the board's file states, so no count of it can be trusted"
    )]
    Miscounted {
        /// By the counter.
        found: u64,
        /// By construction.
        expected: u64,
    },
    /// A stack that grew into the variables.
    #[error(
        "the firmware used all {available} bytes of its stack: its results are void; give the board a larger `stack`"
    )]
    StackOverflow {
        /// Bytes there were.
        available: u32,
    },
}
