//! Runs the scripts of `tests/python`. Enters: a script and its arguments. Leaves: what it printed. A machine without the
//! Python environment fails the test with the command that makes one; who wants to go without says so with
//! `INTACT_SKIP_PYTHON=1`, and then the test says that it was skipped.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment's interpreter, or `None` if Python is not wanted.
pub(crate) fn interpreter() -> Option<PathBuf> {
    if std::env::var_os("INTACT_SKIP_PYTHON").is_some() {
        let test = std::thread::current().name().unwrap_or("a test").to_string();
        println!("skipped: {test} (INTACT_SKIP_PYTHON is set)");
        return None;
    }
    let venv = std::env::var_os("INTACT_VENV").map_or_else(|| root().join("target/venv"), PathBuf::from);
    let python = venv.join("bin/python");
    assert!(
        python.exists(),
        "{} is missing. `cargo validate` makes it; so does `python3 -m venv target/venv && target/venv/bin/pip install -r \
         tests/python/requirements.txt`; INTACT_VENV names another place; INTACT_SKIP_PYTHON=1 skips what needs it",
        python.display()
    );
    Some(python)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// Output of a script, or `None` if Python is not wanted.
pub(super) fn run<S: AsRef<OsStr>>(script: &str, arguments: &[S]) -> Option<String> {
    let output =
        Command::new(interpreter()?).arg(root().join("tests/python").join(script)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}
