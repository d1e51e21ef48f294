//! Files appear whole or not at all. Enters: a path and bytes. Leaves: the file, flushed to the disk and renamed into place.
//! Refused: whatever the file system refuses, with the path.

use std::io::Write;
use std::path::{Path, PathBuf};

/// A file could not be written; what was there before still is.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot write {bytes} bytes: {source}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: usize,
    /// Why.
    pub source: std::io::Error,
}

/// Writes `bytes` beside `path`, flushes them to the disk and renames.
///
/// # Errors
/// [`WriteError`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let write = || -> std::io::Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| WriteError { path: path.into(), bytes: bytes.len(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = write_atomically(Path::new("no/such/folder/file"), b"x").unwrap_err().to_string();
        assert!(error.starts_with("no/such/folder/file: cannot write 1 bytes: "), "{error}");
    }

    #[test]
    fn an_old_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
