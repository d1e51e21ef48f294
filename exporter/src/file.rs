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

/// Writes `bytes` beside `path`, as `.NAME.partial` with something random for the name, flushes them to the disk and renames.
/// Who may read the file is for the umask to say.
///
/// # Errors
/// [`WriteError`]; nothing of the new file is left then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let write = || -> std::io::Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".partial");
        // Temporary files are made for their owner alone; this one is to stay.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(parent)?;
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
    fn a_file_that_cannot_be_replaced_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        let error = write_atomically(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("taken: cannot write 1 bytes"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        write_atomically(&folder.path().join("ours"), b"x").unwrap();
        std::fs::write(folder.path().join("any"), b"x").unwrap();
        assert_eq!(mode("ours"), mode("any"));
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
