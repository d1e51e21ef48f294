//! Which compiler builds the firmware. Enters: a target triple. Leaves: a [`Toolchain`] that can build for it. Refused: a
//! machine that has none, with what was looked at and what to install.
//!
//! Two ways are equally good, and looked for in this order, first on the search path, then in `/usr/bin`:
//! 1. *prebuilt*: `core` for the target is installed (`rustup target add thumbv7em-none-eabihf`);
//! 2. *from source*: the sources of `core` are installed (Debian's `rust-web-src` or `rust-src`, rustup's component
//!    `rust-src`), and cargo compiles them once for the target (`-Zbuild-std=core`, which a released compiler permits under
//!    `RUSTC_BOOTSTRAP=1`).
//!
//! Linked with the compiler's own `rust-lld` where it has one, else with `arm-none-eabi-ld`.

use crate::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Oldest compiler that takes the workspace: `rust-version` of its manifest.
const OLDEST: (u32, u32) = (1, 95);
/// GNU's linker for bare-metal Arm.
const GNU_LINKER: &str = "arm-none-eabi-ld";

/// A compiler that can build for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Folder of `cargo` and `rustc`; `None`: as the search path has it.
    folder: Option<PathBuf>,
    /// Target triple.
    target: String,
    /// Whether `core` has to be compiled.
    from_source: bool,
    /// Linker other than the compiler's own.
    linker: Option<&'static str>,
}

impl Toolchain {
    /// Looks for a compiler for `target`.
    ///
    /// # Errors
    /// [`Error::NoToolchain`].
    pub fn find(target: &str) -> Result<Self, Error> {
        let mut found = Vec::new();
        for folder in [None, Some(PathBuf::from("/usr/bin"))] {
            match Self::inspect(folder, target) {
                Ok(toolchain) => return Ok(toolchain),
                Err(lack) => found.push(lack),
            }
        }
        Err(Error::NoToolchain { target: target.into(), found })
    }

    /// The toolchain whose `cargo` and `rustc` lie in `folder`.
    ///
    /// # Errors
    /// [`Error::NoToolchain`].
    pub fn in_folder(folder: &Path, target: &str) -> Result<Self, Error> {
        Self::inspect(Some(folder.into()), target)
            .map_err(|lack| Error::NoToolchain { target: target.into(), found: vec![lack] })
    }

    /// The toolchain in `folder`, or what it lacks.
    fn inspect(folder: Option<PathBuf>, target: &str) -> Result<Self, String> {
        let mut toolchain = Self { folder, target: target.into(), from_source: false, linker: None };
        let rustc = toolchain.program("rustc");
        let ask = |arguments: &[&str]| {
            let output = toolchain.command("rustc").args(arguments).output();
            let output = output.map_err(|e| format!("{}: {e}", rustc.display()))?;
            if !output.status.success() {
                return Err(format!("{} {}: {}", rustc.display(), arguments.join(" "), output.status));
            }
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let version = ask(&["--version"])?;
        if parse_version(&version).is_none_or(|v| v < OLDEST) {
            return Err(format!("{} is `{version}`, {}.{} or newer is needed", rustc.display(), OLDEST.0, OLDEST.1));
        }
        let libraries = PathBuf::from(ask(&["--print", "target-libdir", "--target", target])?);
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?);
        let prebuilt = has_library(&libraries, "libcore-");
        if !prebuilt && !sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists() {
            return Err(format!("{} ({version}) has neither this target nor the sources of `core`", rustc.display()));
        }
        let host = PathBuf::from(ask(&["--print", "target-libdir"])?);
        if !host.with_file_name("bin").join("rust-lld").exists() {
            if Command::new(GNU_LINKER).arg("--version").output().is_err() {
                return Err(format!("{} ({version}) has no rust-lld, and there is no {GNU_LINKER}", rustc.display()));
            }
            toolchain.linker = Some(GNU_LINKER);
        }
        toolchain.from_source = !prebuilt;
        Ok(toolchain)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.as_ref().map_or_else(|| name.into(), |folder| folder.join(name))
    }

    /// A command of this toolchain, freed of what a surrounding `cargo test` or a user's flags for the host would add.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            let flags = name.starts_with("RUST") && (name.ends_with("FLAGS") || name.contains("WRAPPER"));
            let cargo =
                ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_ENCODED_"].iter().any(|start| name.starts_with(start));
            if flags || cargo || name == "RUSTC" || name == "CARGO_TARGET_DIR" {
                command.env_remove(&variable);
            }
        }
        if let Some(folder) = &self.folder {
            let mut path = std::ffi::OsString::from(folder);
            if let Some(rest) = std::env::var_os("PATH") {
                path.push(":");
                path.push(rest);
            }
            command.env("PATH", path).env("RUSTC", self.program("rustc"));
        }
        command
    }

    /// `cargo build`, for the target and that core of it, with its output in `output`.
    pub(crate) fn build(&self, manifest: &Path, output: &Path, cpu: &str) -> Command {
        let mut command = self.command("cargo");
        let variable = |name: &str| {
            let target = self.target.to_uppercase().replace(['-', '.'], "_");
            format!("CARGO_TARGET_{target}_{name}")
        };
        command.args(["build", "--release", "--locked", "--quiet", "--target", &self.target]);
        command.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(output);
        if self.from_source {
            command.arg("-Zbuild-std=core").env("RUSTC_BOOTSTRAP", "1");
        }
        if let Some(linker) = self.linker {
            command.env(variable("LINKER"), linker);
        }
        // Cores of ARMv8-M share a target, but not their instructions: the compiler and the runtime's kernels go by the core.
        if self.target.starts_with("thumbv8") {
            command.env(variable("RUSTFLAGS"), format!("-Ctarget-cpu={cpu}"));
        }
        command
    }
}

/// Whether a compiled library whose name starts so lies in `folder`.
fn has_library(folder: &Path, start: &str) -> bool {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name());
    names.into_iter().any(|name| name.to_string_lossy().starts_with(start))
}

/// `rustc 1.95.0 (..)` to `(1, 95)`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("rustc ")?.split(['.', ' ', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("rustc 1.96.0 (30a34c682 2026-05-25) (built from a source tarball)"), Some((1, 96)));
        assert_eq!(parse_version("rustc 1.99.0-nightly (abc 2026-12-01)"), Some((1, 99)));
        assert_eq!(parse_version("cargo 1.96.0"), None);
    }

    #[test]
    fn a_target_that_nobody_has_names_what_to_install() {
        let error = Toolchain::find("thumbv9x-none-eabi").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("nothing here compiles for thumbv9x-none-eabi: "), "{text}");
        assert!(text.contains("rustup target add thumbv9x-none-eabi") && text.contains("rust-web-src"), "{text}");
    }

    #[test]
    fn a_folder_without_a_compiler_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let lack = Toolchain::inspect(Some(folder.path().into()), "thumbv7em-none-eabihf").unwrap_err();
        assert!(lack.starts_with(&format!("{}/rustc: ", folder.path().display())), "{lack}");
    }
}
