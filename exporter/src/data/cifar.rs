//! CIFAR-10 in its binary form. Enters: a folder with `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, or
//! its parent. Leaves: a [`Dataset`] of 32x32 images in file order. Refused: files that are missing or do not end with
//! a whole record, labels above 9, a `batches.meta.txt` without ten names.
//!
//! A record is 3073 bytes: the label, then 1024 bytes each of red, green and blue, row by row
//! (<https://www.cs.toronto.edu/~kriz/cifar.html>). The original files have 10,000 records each; another number of
//! whole records is read and told in [`Dataset::notes`].

use std::path::{Path, PathBuf};

use super::{DataError, Dataset, Split};

/// The folder that the original archive unpacks to.
const FOLDER: &str = "cifar-10-batches-bin";
const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST: [&str; 1] = ["test_batch.bin"];
const META: &str = "batches.meta.txt";
const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;
const RECORDS: usize = 10_000;

/// The folder with the binary files: this one, or the one of the original name in it.
pub fn find(path: &Path) -> Option<PathBuf> {
    [path.to_owned(), path.join(FOLDER)]
        .into_iter()
        .find(|folder| TRAIN.iter().chain(&TEST).any(|file| folder.join(file).is_file()))
}

/// Whether the files of the Python form, which have the same names without an ending, lie here.
pub(super) fn is_python_form(path: &Path) -> bool {
    path.join("data_batch_1").is_file() || path.join("cifar-10-batches-py").is_dir()
}

/// Reads one split from the folder with the binary files.
///
/// # Errors
/// All that the module refuses.
pub fn read(folder: &Path, split: Split) -> Result<Dataset, DataError> {
    let files: &[&str] = if split == Split::Train { &TRAIN } else { &TEST };
    let missing: Vec<_> =
        files.iter().filter(|file| !folder.join(file).is_file()).map(|file| format!("`{file}`")).collect();
    if !missing.is_empty() {
        return Err(DataError::layout(
            folder,
            format!("no {}", missing.join(", ")),
            format!("the {split} files of CIFAR-10"),
        ));
    }
    let classes = class_names(&folder.join(META))?;
    let (mut labels, mut images, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let path = folder.join(file);
        let records = read_batch(&path, &mut labels, &mut images)?;
        if records != RECORDS {
            notes.push(format!("`{}` holds {records} records; the original has {RECORDS}", path.display()));
        }
    }
    Ok(Dataset::new("cifar10", [SIDE, SIDE], classes, labels, images)?.with_notes(notes))
}

/// Appends the records of one file and returns their number.
fn read_batch(path: &Path, labels: &mut Vec<u16>, images: &mut Vec<u8>) -> Result<usize, DataError> {
    let bytes = std::fs::read(path).map_err(|e| DataError::io(path, e))?;
    let fault = |offset: usize, found: String, expected: String| {
        Err(DataError::Format { file: path.to_owned(), offset: offset as u64, found, expected })
    };
    if bytes.is_empty() {
        return fault(0, "an empty file".into(), format!("records of {RECORD} bytes"));
    }
    let (records, rest) = bytes.as_chunks::<RECORD>();
    if !rest.is_empty() {
        let found = format!("a last record of {} bytes ({} in all)", rest.len(), bytes.len());
        return fault(bytes.len() - rest.len(), found, format!("whole records of {RECORD} bytes"));
    }
    for (i, [label, planes @ ..]) in records.iter().enumerate() {
        if usize::from(*label) >= CLASSES.len() {
            return fault(i * RECORD, format!("label {label}"), "0 to 9".into());
        }
        labels.push(u16::from(*label));
        images.extend((0..PLANE).flat_map(|pixel| [planes[pixel], planes[PLANE + pixel], planes[2 * PLANE + pixel]]));
    }
    Ok(records.len())
}

/// The names in `batches.meta.txt`, one a line; without the file, the ten usual ones.
fn class_names(meta: &Path) -> Result<Vec<String>, DataError> {
    let text = match std::fs::read_to_string(meta) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(CLASSES.map(String::from).to_vec()),
        read => read.map_err(|e| DataError::io(meta, e))?,
    };
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    if names.len() != CLASSES.len() {
        let (found, expected) = (format!("{} class names", names.len()), "10".into());
        return Err(DataError::Format { file: meta.to_owned(), offset: 0, found, expected });
    }
    Ok(names)
}
