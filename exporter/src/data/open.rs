//! From what the user typed to a data set. Enters: a name or a path, the split, and [`Options`]. Leaves: a [`Dataset`].
//! Refuses: paths at which no data set of a known form lies, saying what was looked for.

use std::fmt;
use std::path::Path;

use super::{DataError, Dataset, cifar, folder, shapes10};

const FORMS: &str = "`shapes10`, CIFAR-10 in its binary form (`data_batch_1.bin` ... `test_batch.bin`), or a folder of \
                     class folders with PNG or JPEG pictures";

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What is learned from.
    Train,
    /// What accuracy is measured on.
    Test,
}

impl Split {
    /// `train` or `test`, also the names of the folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What can be asked of a data set. The default: as it lies, nothing held out, seed 0, all images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Height and width to resize to. Without it, images keep their size, and must all have the same.
    pub size: Option<[usize; 2]>,
    /// For class folders without `test/`: the share of each class that [`Split::Test`] gets (see
    /// [`Dataset::hold_out`]). Refused where there is a test split already.
    pub hold_out: Option<f64>,
    /// What `shapes10` is drawn from and images are held out by. It belongs to the data: two commands that are to see
    /// the same split must be given the same one, whatever else is random in them.
    pub seed: u64,
    /// At most so many images of the split, at least 1, chosen as by [`Dataset::sample`]. Of class folders and of `shapes10`
    /// only these are read or drawn.
    pub sample: Option<usize>,
}

/// Opens `shapes10` or the folder at this path. The name wins: a folder called `shapes10` is `./shapes10`.
///
/// # Errors
/// [`DataError`]; see the module of each form.
pub fn open(spec: &str, split: Split, options: &Options) -> Result<Dataset, DataError> {
    let path = Path::new(spec);
    let (data, form) = if spec == "shapes10" {
        let count = if split == Split::Train { shapes10::TRAIN } else { shapes10::TEST };
        // The classes come in turn already.
        let count = options.sample.map_or(count, |sample| sample.min(count));
        (shapes10::draw(options.seed, split, count)?, "shapes10")
    } else if let Some(folder) = cifar::find(path) {
        let all = cifar::read(&folder, split)?;
        let data = if let Some(count) = options.sample { all.sample(count) } else { all };
        (data, "CIFAR-10 in its binary form")
    } else {
        return from_folder(path, split, options);
    };
    if options.hold_out.is_some() {
        let reason = format!("{form} has a test split, so no share can be held out");
        return Err(DataError::Dataset { name: data.name().into(), reason });
    }
    match options.size {
        Some(size) if size != [data.height(), data.width()] => data.resized(size),
        _ => Ok(data),
    }
}

fn from_folder(path: &Path, split: Split, options: &Options) -> Result<Dataset, DataError> {
    let found = match std::fs::metadata(path) {
        Err(e) => return Err(DataError::layout(path, e.to_string(), FORMS)),
        Ok(meta) if !meta.is_dir() => "a file".into(),
        Ok(_) if cifar::is_python_form(path) => "CIFAR-10 in its Python form".into(),
        Ok(_) if folder::lacks_folders(path) => "a folder without folders in it".into(),
        Ok(_) => return folder::read(path, split, options),
    };
    Err(DataError::Layout { folder: path.to_owned(), found, expected: FORMS.into() })
}
