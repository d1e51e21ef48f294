//! Runs the built command line as a person does. Enters: arguments. Leaves: exit code and what was printed. Refused: a
//! binary that has not been built, with the command that builds it.

use std::io::{Seek, Write};
use std::path::PathBuf;
use std::process::Command;

/// What one run of `intact` did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command, for messages.
    pub command: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Results.
    pub stdout: String,
    /// Progress, notes, errors.
    pub stderr: String,
}

impl Ran {
    /// The run, if it ended with `code`.
    ///
    /// # Panics
    /// With everything printed, if it did not.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "`{}`\n-- stdout\n{}\n-- stderr\n{}", self.command, self.stdout, self.stderr);
        self
    }

    /// The run, if stderr holds every one of `parts` and no panic.
    ///
    /// # Panics
    /// With stderr, if it does not.
    pub fn complains(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "`{}`: no `{part}` in stderr:\n{}", self.command, self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "`{}` panicked:\n{}", self.command, self.stderr);
        self
    }
}

/// The binary beside the running test.
///
/// # Panics
/// If it has not been built.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("tests run from target/<profile>/deps");
    let binary = folder.join(format!("intact{}", std::env::consts::EXE_SUFFIX));
    assert!(binary.exists(), "{} is not built; run `cargo build --release --workspace --bins`", binary.display());
    binary
}

/// Runs `intact` with `arguments`.
///
/// # Panics
/// If it cannot be started.
pub fn intact<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Ran {
    intact_reading(arguments, &[])
}

/// Runs `intact` with `arguments` and these bytes on its stdin.
///
/// # Panics
/// If it cannot be started.
pub fn intact_reading<S: AsRef<std::ffi::OsStr>>(arguments: &[S], stdin: &[u8]) -> Ran {
    let mut input = tempfile::tempfile().expect("a temporary file");
    input.write_all(stdin).and_then(|()| input.rewind()).expect("a temporary file can be written");
    let mut command = Command::new(binary());
    command.args(arguments).stdin(input);
    let output = command.output().expect("the binary starts");
    Ran {
        command: format!("{command:?}"),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
