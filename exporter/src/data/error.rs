//! Why data are refused. Enters: the file and what is wrong with it. Leaves: one sentence for people, with found and
//! expected.

use std::path::{Path, PathBuf};

/// Unreadable images are all counted, but at most this many are named in one message.
const NAMED: usize = 10;

/// One image that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Where it lies.
    pub file: PathBuf,
    /// What the decoder or the file system said.
    pub reason: String,
}

/// Why a data set or an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("cannot read `{}`: {source}", file.display())]
    Io {
        /// The file or folder asked for.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A binary file breaks its format.
    #[error("`{}`, byte {offset}: found {found}, expected {expected}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// Where the fault begins, in bytes from the start of the file.
        offset: u64,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// A folder is not laid out as it should be.
    #[error("`{}`: found {found}, expected {expected}", folder.display())]
    Layout {
        /// The folder, or the file that stands in its place.
        folder: PathBuf,
        /// What is there.
        found: String,
        /// What was looked for.
        expected: String,
    },
    /// Images that no decoder can read, in file order.
    #[error("{}", list(.0))]
    Unreadable(Vec<Unreadable>),
    /// Images of this size are not held in a data set.
    #[error("found a size of {height}x{width} pixels, expected 1x1 to 4096x4096")]
    Size {
        /// Pixels from top to bottom.
        height: usize,
        /// Pixels from left to right.
        width: usize,
    },
    /// A data set cannot be made from these parts or with these options.
    #[error("data set `{name}`: {reason}")]
    Dataset {
        /// The data set's name.
        name: String,
        /// Found and expected.
        reason: String,
    },
}

impl DataError {
    pub(super) fn io(file: &Path, source: std::io::Error) -> Self {
        Self::Io { file: file.to_owned(), source }
    }

    pub(super) fn layout(folder: &Path, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Layout { folder: folder.to_owned(), found: found.into(), expected: expected.into() }
    }
}

fn list(files: &[Unreadable]) -> String {
    let line = |bad: &Unreadable| format!("`{}`: {}", bad.file.display(), bad.reason);
    if let [one] = files {
        return format!("cannot read the image {}", line(one));
    }
    let mut text = format!("cannot read {} images:", files.len());
    for bad in files.iter().take(NAMED) {
        text += &format!("\n  {}", line(bad));
    }
    if files.len() > NAMED {
        text += &format!("\n  and {} more", files.len() - NAMED);
    }
    text
}
