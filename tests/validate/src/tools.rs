//! The programs that the check needs beyond cargo. Enters: a tool and the repository's root. Leaves: the tool, installed if
//! this machine allows it. Refused: a machine where it is neither there nor installable, with the package to install.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program outside the Rust toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Builds firmware: the rustup targets of [`ARM_TARGETS`], or Debian's Rust with its sources and GNU ld.
    ArmToolchain,
    /// `qemu-system-arm`.
    Qemu,
    /// Cross-builds for a Raspberry Pi: the rustup target `aarch64-unknown-linux-gnu`, or Debian's standard library for arm64;
    /// `aarch64-linux-gnu-gcc` to link with.
    Aarch64Toolchain,
    /// `qemu-aarch64`, QEMU's user mode.
    QemuUser,
    /// A Python environment with the packages of `tests/python/requirements.txt`.
    PythonEnvironment,
}

/// Targets of the firmware: Cortex-M0 and M0+; M3; M4 and M7; M33 and M55.
const ARM_TARGETS: [&str; 4] =
    ["thumbv6m-none-eabi", "thumbv7m-none-eabi", "thumbv7em-none-eabihf", "thumbv8m.main-none-eabihf"];

/// Makes sure that `tool` can be used.
///
/// # Errors
/// What is missing, and the command that installs it.
pub fn provide(tool: Tool, root: &Path) -> Result<(), String> {
    match tool {
        Tool::ArmToolchain => arm_toolchain(),
        Tool::Aarch64Toolchain => aarch64_toolchain(),
        Tool::QemuUser if runs("qemu-aarch64", "--version") => Ok(()),
        Tool::QemuUser => install(&["qemu-user"], "or QEMU 7.2 or newer from https://www.qemu.org, with plugins"),
        Tool::Qemu if runs("qemu-system-arm", "--version") => Ok(()),
        Tool::Qemu => install(&["qemu-system-arm"], "or QEMU 7.2 or newer from https://www.qemu.org"),
        Tool::PythonEnvironment => python_environment(root),
    }
}

/// Variables that tests read to find what [`provide`] made.
pub fn environment(root: &Path) -> Vec<(&'static str, PathBuf)> {
    vec![("INTACT_VENV", venv(root))]
}

/// Where the Python environment of the tests lies.
pub fn venv(root: &Path) -> PathBuf {
    std::env::var_os("INTACT_VENV").map_or_else(|| root.join("target/venv"), PathBuf::from)
}

/// Rustup's targets where there is rustup, since the figures that tests hold are of its compiler; else Debian's Rust.
fn arm_toolchain() -> Result<(), String> {
    let missing: Vec<&str> = ARM_TARGETS.into_iter().filter(|target| !has_rustup_target(target)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let command = [&["target", "add"], &missing[..]].concat();
    if runs("rustup", "--version") {
        println!("validate: rustup {}", command.join(" "));
        if Command::new("rustup").args(&command).stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
            return Ok(());
        }
    }
    if debian_rust_source() && runs("arm-none-eabi-ld", "--version") {
        return Ok(());
    }
    install(
        &["rustc-web", "cargo-web", "rust-web-src", "gcc-arm-none-eabi"],
        &format!("or, with rustup: rustup {}", command.join(" ")),
    )
}

fn runs(program: &str, argument: &str) -> bool {
    let status = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|s| s.success())
}

fn has_rustup_target(target: &str) -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    output.is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).exists())
}

fn aarch64_toolchain() -> Result<(), String> {
    if !runs("aarch64-linux-gnu-gcc", "--version") {
        install(&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"], "or any gcc for aarch64 by that name")?;
    }
    let target = "aarch64-unknown-linux-gnu";
    if has_rustup_target(target) {
        return Ok(());
    }
    println!("validate: installing the Rust target {target}");
    if runs("rustup", "--version") {
        let status = Command::new("rustup").args(["target", "add", target]).status();
        return match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("`rustup target add {target}` failed")),
        };
    }
    // Debian's Rust takes the library of the other architecture.
    if !runs("dpkg", "--version")
        || !Command::new("dpkg").args(["--add-architecture", "arm64"]).status().is_ok_and(|s| s.success())
    {
        return Err(format!("no standard library for {target}: `rustup target add {target}`"));
    }
    install(&["libstd-rust-web-dev:arm64"], "or, with rustup: rustup target add aarch64-unknown-linux-gnu")
}

/// Whether the `rustc` of Debian finds the sources of `core`, for `-Zbuild-std`.
fn debian_rust_source() -> bool {
    let output = Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).output();
    output.is_ok_and(|o| {
        Path::new(String::from_utf8_lossy(&o.stdout).trim()).join("lib/rustlib/src/rust/library/core").exists()
    })
}

/// Installs Debian packages where that is possible without asking anybody.
fn install(packages: &[&str], otherwise: &str) -> Result<(), String> {
    let list = packages.join(" ");
    let hint = format!("install {list} (Debian: apt-get install {list}; {otherwise})");
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    if !root || !runs("apt-get", "--version") {
        return Err(format!("missing tools: {hint}"));
    }
    println!("validate: installing {list}");
    for arguments in [vec!["update", "--quiet"], [vec!["install", "--yes", "--quiet"], packages.to_vec()].concat()] {
        let status = Command::new("apt-get")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status();
        if !status.is_ok_and(|s| s.success()) {
            return Err(format!("`apt-get {}` failed; {hint}", arguments.join(" ")));
        }
    }
    Ok(())
}

/// Creates the virtual environment, or brings it up to the requirements file it was made from.
fn python_environment(root: &Path) -> Result<(), String> {
    let requirements = root.join("tests/python/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).map_err(|e| format!("{}: {e}", requirements.display()))?;
    let venv = venv(root);
    let stamp = venv.join("requirements.installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    println!("validate: installing the Python packages of tests/python/requirements.txt");
    let python = venv.join("bin/python");
    let run = |program: &Path, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).stdout(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("`{} {}` failed ({status})", program.display(), arguments.join(" "))),
            Err(error) => Err(format!("{}: {error} (Python 3.10 or newer with venv is needed)", program.display())),
        }
    };
    let (venv_text, requirements_text) = (venv.to_string_lossy(), requirements.to_string_lossy());
    run(Path::new("python3"), &["-m", "venv", &venv_text])?;
    run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", &requirements_text])?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))
}
