//! A folder of class folders. Enters: `<folder>/<class>/<picture>`, or the same under `train/` and `test/`. Leaves: a
//! [`Dataset`] with the classes sorted by name and the pictures of a class sorted by file name, both by bytes, so that
//! labels and order are the same on every machine. Refused: a missing folder, a class without pictures, pictures
//! beside the class folders, `train/` and `test/` with different classes, pictures that cannot be read (all of them
//! are listed), and pictures of different sizes when no size is asked for.
//!
//! Pictures are files that end in `.png`, `.jpg` or `.jpeg`, in any case; what they are is then decided by their
//! content. Other files are left unread and counted in [`Dataset::notes`]; names that begin with a dot are ignored.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{DataError, Dataset, Options, Split, choice, picture};

const LAYOUT: &str =
    "class folders with PNG or JPEG pictures (`<class>/*.png`), or the same under `train/` and `test/`";

/// Reads one split; see [`super::open`] for what `options` mean.
///
/// # Errors
/// All that the module refuses.
pub fn read(folder: &Path, split: Split, options: &Options) -> Result<Dataset, DataError> {
    let top = Listing::of(folder)?;
    let splits = top.has_splits();
    let has_test = splits && top.folder("test").is_some();
    if has_test && options.hold_out.is_some() {
        return Err(DataError::layout(folder, "a `test` folder", "none, because a held-out share was asked for"));
    }
    if !has_test && split == Split::Test && options.hold_out.is_none() {
        return Err(DataError::layout(
            folder,
            "no `test` folder",
            "`train` and `test`, or a held-out share to be asked for",
        ));
    }
    let mut files = if splits {
        // What is held out comes from `train`.
        let root = if has_test { split } else { Split::Train };
        let root = top.folder(root.name()).ok_or_else(|| DataError::layout(folder, "no `train` folder", "one"))?;
        if let (Some(train), Some(test)) = (top.folder("train"), top.folder("test")) {
            check_same_classes(folder, train, test)?;
        }
        let mut files = Files::of(root)?;
        files.notes.extend(top.notes_beside_splits(folder));
        files
    } else {
        Files::of(folder)?
    };
    let name = name_of(&folder.canonicalize().map_err(|e| DataError::io(folder, e))?);
    if let Some(share) = options.hold_out {
        let held = choice::held_out(&files.labels, &files.classes, share, options.seed)
            .map_err(|reason| DataError::Dataset { name: name.clone(), reason })?;
        files.keep((0..held.len()).filter(|&i| held[i] == (split == Split::Test)));
    }
    if let Some(count) = options.sample {
        files.keep(choice::in_turns(&files.labels).into_iter().take(count));
    }
    let (size, images) = read_pictures(&files.root, &files.pictures, options.size)?;
    Ok(Dataset::new(name, size, files.classes, files.labels, images)?.with_notes(files.notes))
}

/// Whether this folder can be read and nothing in it could be a class folder.
pub(super) fn lacks_folders(folder: &Path) -> bool {
    Listing::of(folder).is_ok_and(|listing| listing.folders.is_empty())
}

fn check_same_classes(folder: &Path, train: &Path, test: &Path) -> Result<(), DataError> {
    let [train, test] = [Listing::of(train)?.class_names(), Listing::of(test)?.class_names()];
    for (these, those, lacking) in [(&train, &test, Split::Test), (&test, &train, Split::Train)] {
        if let Some(name) = these.iter().find(|name| !those.contains(name)) {
            let expected = "the same classes in `train` and `test`";
            return Err(DataError::layout(folder, format!("no class `{name}` in `{lacking}`"), expected));
        }
    }
    Ok(())
}

/// The pictures of `<root>/<class>/<picture>`, unread.
struct Files {
    root: PathBuf,
    /// Of all classes, sorted.
    classes: Vec<String>,
    pictures: Vec<PathBuf>,
    /// Of each picture the index of its class.
    labels: Vec<u16>,
    notes: Vec<String>,
}

impl Files {
    fn of(root: &Path) -> Result<Self, DataError> {
        let top = Listing::of(root)?;
        if top.folders.is_empty() {
            return Err(DataError::layout(root, "no folder in it", LAYOUT));
        }
        if let Some(first) = top.pictures.first() {
            let found = format!("{} pictures beside the class folders, first `{}`", top.pictures.len(), name_of(first));
            return Err(DataError::layout(root, found, "every picture in the folder of its class"));
        }
        if top.folders.len() > usize::from(u16::MAX) + 1 {
            return Err(DataError::layout(root, format!("{} class folders", top.folders.len()), "at most 65536"));
        }
        let mut notes: Vec<String> = top.note_on_other_files(root).into_iter().collect();
        let (mut pictures, mut labels) = (Vec::new(), Vec::new());
        for (label, class) in top.folders.iter().enumerate() {
            let listing = Listing::of(class)?;
            if listing.pictures.is_empty() {
                return Err(DataError::layout(class, "no picture", "PNG or JPEG files (`.png`, `.jpg`, `.jpeg`)"));
            }
            notes.extend(listing.note_on_other_files(class));
            if let Some(first) = listing.folders.first() {
                let (n, first) = (listing.folders.len(), name_of(first));
                let class = class.display();
                notes.push(format!("`{class}`: folders within a class were not read ({n}, first `{first}`)"));
            }
            labels.extend(std::iter::repeat_n(label as u16, listing.pictures.len()));
            pictures.extend(listing.pictures);
        }
        Ok(Self { root: root.into(), classes: top.class_names(), pictures, labels, notes })
    }

    /// Leaves these, in this order.
    fn keep(&mut self, chosen: impl IntoIterator<Item = usize>) {
        (self.pictures, self.labels) =
            chosen.into_iter().map(|i| (std::mem::take(&mut self.pictures[i]), self.labels[i])).unzip();
    }
}

/// Decodes all files in parallel into one buffer, in their order.
fn read_pictures(
    root: &Path,
    files: &[PathBuf],
    wanted: Option<[usize; 2]>,
) -> Result<([usize; 2], Vec<u8>), DataError> {
    // Without a size asked for, the first readable picture gives it. Where none is readable, all are listed below.
    let first_size = || files.iter().find_map(|file| picture::decode(file).ok()).map(|picture| picture::size(&picture));
    let size @ [height, width] = wanted.or_else(first_size).unwrap_or([1, 1]);
    picture::check_size(size)?;
    let bytes = height * width * 3;
    let mut images = Vec::new();
    if images.try_reserve_exact(files.len() * bytes).is_err() {
        let found = format!("{} pictures, {} bytes at {height}x{width}", files.len(), files.len() * bytes);
        return Err(DataError::layout(root, found, "a data set that fits into memory"));
    }
    images.resize(files.len() * bytes, 0);
    // What one file came to: nothing, an unreadable picture, or a size that is not the first one's.
    let faults: Vec<_> = images
        .par_chunks_exact_mut(bytes)
        .zip(files)
        .filter_map(|(image, file)| match picture::decode(file) {
            Err(bad) => Some(Err(bad)),
            Ok(picture) if wanted.is_none() && picture::size(&picture) != size => {
                Some(Ok((file, picture::size(&picture))))
            }
            Ok(picture) => {
                image.copy_from_slice(&picture::resize(picture, size));
                None
            }
        })
        .collect();
    let (mut unreadable, mut odd) = (Vec::new(), None);
    for fault in faults {
        match fault {
            Err(bad) => unreadable.push(bad),
            Ok(other) => odd = odd.or(Some(other)),
        }
    }
    if !unreadable.is_empty() {
        return Err(DataError::Unreadable(unreadable));
    }
    match odd {
        Some((file, [h, w])) => {
            let expected = format!("{height}x{width} like those before, or a size to be asked for");
            Err(DataError::layout(file, format!("{h}x{w} pixels"), expected))
        }
        None => Ok((size, images)),
    }
}

/// What lies in one folder, each kind sorted by name.
struct Listing {
    folders: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

impl Listing {
    fn of(folder: &Path) -> Result<Self, DataError> {
        let io = |e| DataError::io(folder, e);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                // The kind that the folder itself tells, but what a link leads to.
                let kind = entry.file_type().map_err(io)?;
                let path = entry.path();
                found.push((kind.is_dir() || kind.is_symlink() && path.is_dir(), path));
            }
        }
        found.sort_by(|(_, a), (_, b)| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
        let mut listing = Self { folders: Vec::new(), pictures: Vec::new(), others: Vec::new() };
        for (is_folder, path) in found {
            let kind = if is_folder {
                &mut listing.folders
            } else if is_picture(&path) {
                &mut listing.pictures
            } else {
                &mut listing.others
            };
            kind.push(path);
        }
        Ok(listing)
    }

    /// Whether `train` or `test` holds folders itself; a class that happens to be called `train` holds pictures.
    fn has_splits(&self) -> bool {
        ["train", "test"].iter().any(|name| self.folder(name).is_some_and(|folder| !lacks_folders(folder)))
    }

    fn folder(&self, name: &str) -> Option<&Path> {
        self.folders.iter().map(PathBuf::as_path).find(|path| path.file_name() == Some(OsStr::new(name)))
    }

    fn class_names(&self) -> Vec<String> {
        self.folders.iter().map(|path| name_of(path)).collect()
    }

    fn notes_beside_splits(&self, folder: &Path) -> Vec<String> {
        let others = self.folders.iter().map(|path| name_of(path)).filter(|name| name != "train" && name != "test");
        let note = |name| format!("`{}`: `{name}` is neither `train` nor `test` and was not read", folder.display());
        others.map(note).chain(self.note_on_other_files(folder)).collect()
    }

    fn note_on_other_files(&self, folder: &Path) -> Option<String> {
        let first = name_of(self.others.first()?);
        let n = self.others.len();
        Some(format!("`{}`: files other than pictures were not read ({n}, first `{first}`)", folder.display()))
    }
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
