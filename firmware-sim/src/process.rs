//! One QEMU process. Enters: a program, a machine, the request. Leaves: the reply's bytes, growing while the firmware works.
//! Refused: a missing QEMU, a program that ends badly, one that gives nothing for too long. The process ends with the value.

use crate::Error;
use crate::protocol::{Greeting, REPLY, REQUEST};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const QEMU: &str = "qemu-system-arm";
/// What firmware and QEMU print.
const LOG: &str = "log";
/// Longest part of the log that is quoted in an error.
const QUOTED: usize = 4_000;

/// A running firmware.
pub(crate) struct Process {
    child: Child,
    folder: TempDir,
    images: usize,
    record: usize,
    length: usize,
    grown: Instant,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `program` on `machine`; its reply is to have a record of `record` bytes for each of `images`.
    pub(crate) fn start(
        program: &Path,
        machine: &str,
        counting: bool,
        input: &[u8],
        images: usize,
        record: usize,
    ) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(|source| Error::Write { path: std::env::temp_dir(), source })?;
        let fail = |name: &str, source| Error::Write { path: folder.path().join(name), source };
        std::fs::write(folder.path().join(REQUEST), input).map_err(|e| fail(REQUEST, e))?;
        let log = File::create(folder.path().join(LOG)).map_err(|e| fail(LOG, e))?;
        let also = log.try_clone().map_err(|e| fail(LOG, e))?;
        let mut command = Command::new(QEMU);
        command.args(["-machine", machine, "-display", "none", "-monitor", "none", "-serial", "none"]);
        command.args(["-semihosting-config", "enable=on,target=native", "-kernel"]).arg(program);
        if counting {
            command.args(["-icount", "shift=6"]);
        }
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(log).stderr(also);
        let child = spawn(&mut command)?;
        Ok(Self { child, folder, images, record, length: 0, grown: Instant::now(), status: None })
    }

    /// Pictures asked for.
    pub(crate) fn images(&self) -> usize {
        self.images
    }

    /// Pictures whose record is complete.
    pub(crate) fn done(&self) -> usize {
        (self.length.saturating_sub(Greeting::BYTES) / self.record.max(1)).min(self.images)
    }

    /// Looks how far it is. Returns whether it still runs.
    pub(crate) fn poll(&mut self, patience: Duration) -> Result<bool, Error> {
        if self.status.is_some() {
            return Ok(false);
        }
        let fail = |source| Error::Read { path: QEMU.into(), source };
        let status = self.child.try_wait().map_err(fail)?;
        let length = std::fs::metadata(self.folder.path().join(REPLY)).map_or(0, |m| m.len() as usize);
        if length != self.length {
            (self.length, self.grown) = (length, Instant::now());
        }
        let (done, images) = (self.done(), self.images);
        match status {
            Some(status) if status.success() => {
                self.status = Some(status);
                Ok(false)
            }
            Some(status) => Err(Error::Stopped { done, images, status: status.to_string(), message: self.log() }),
            None if self.grown.elapsed() > patience => {
                Err(Error::Stalled { done, images, seconds: patience.as_secs(), message: self.log() })
            }
            None => Ok(true),
        }
    }

    /// The whole reply of a process that has ended well.
    pub(crate) fn reply(self) -> Result<Vec<u8>, Error> {
        let path = self.folder.path().join(REPLY);
        std::fs::read(&path).map_err(|source| Error::Read { path, source })
    }

    /// What was printed, its end if it is long.
    fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join(LOG)).unwrap_or_default();
        let end = &bytes[bytes.len().saturating_sub(QUOTED)..];
        match String::from_utf8_lossy(end).trim() {
            "" => "it printed nothing".into(),
            text => text.into(),
        }
    }
}

/// Starts QEMU, or says which package has it.
fn spawn(qemu: &mut Command) -> Result<Child, Error> {
    qemu.spawn().map_err(|source| Error::NoProgram {
        program: qemu.get_program().to_string_lossy().into(),
        package: "qemu-system-arm",
        source,
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            // Both fail only for a process that is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_emulator_is_named_with_its_package() {
        let text = spawn(&mut Command::new("./no-qemu-here")).unwrap_err().to_string();
        assert!(text.starts_with("`./no-qemu-here` cannot be started: "), "{text}");
        assert!(
            text.ends_with("install the package qemu-system-arm (Debian: apt-get install qemu-system-arm)"),
            "{text}"
        );
    }
}
