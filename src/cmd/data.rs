//! The data set arguments that several verbs share. Enters: `--data` and its refinements. Leaves: an opened data set, with
//! its notes told on stderr. Refused: what `exporter::data` refuses.

use anyhow::{Result, ensure};
use clap::Args;
use exporter::data::{self, Dataset, Options, Split};
use exporter::network::Network;

/// Which images.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataArguments {
    /// `shapes10` (drawn by the program), a CIFAR-10 binary folder, or a folder of class folders (with `train/` and
    /// `test/`, or see --hold-out)
    #[arg(long, default_value = "shapes10")]
    pub(crate) data: String,

    /// For class folders without a test split: the share of each class held out for testing
    #[arg(long, value_name = "SHARE")]
    pub(crate) hold_out: Option<f64>,

    /// Seed of `shapes10`, and of the choice of held-out images
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub(crate) data_seed: u64,
}

impl DataArguments {
    /// Opens one split, resized to `size` (height, width).
    pub(crate) fn open(&self, split: Split, size: Option<[usize; 2]>) -> Result<Dataset> {
        self.open_as(split, size, None)
    }

    /// Opens at most `count` images of one split, taken from the classes in turn, and reads no others.
    #[cfg(feature = "train")]
    pub(crate) fn open_sample(&self, split: Split, count: usize) -> Result<Dataset> {
        self.open_as(split, None, Some(count))
    }

    fn open_as(&self, split: Split, size: Option<[usize; 2]>, sample: Option<usize>) -> Result<Dataset> {
        let options = Options { size, hold_out: self.hold_out, seed: self.data_seed, sample };
        let set = data::open(&self.data, split, &options)?;
        for note in set.notes() {
            eprintln!("note: {note}");
        }
        Ok(set)
    }

    /// Opens one split in the size that `network` reads, and checks that both speak of the same classes.
    pub(crate) fn open_for(&self, network: &Network, split: Split) -> Result<Dataset> {
        let shape = network.tensors[network.input].shape;
        ensure!(shape.c == 3, "network `{}` reads {} channels; data sets have 3 (RGB)", network.name, shape.c);
        let set = self.open(split, Some([shape.h, shape.w]))?;
        let logits = network.tensors[network.output].shape.len();
        ensure!(
            set.classes().len() == logits,
            "data set `{}` has {} classes, network `{}` has {logits} logits",
            set.name(),
            set.classes().len(),
            network.name
        );
        ensure!(
            network.labels.is_empty() || network.labels == set.classes(),
            "data set `{}` has classes {:?}, network `{}` was trained for {:?}",
            set.name(),
            set.classes(),
            network.name,
            network.labels
        );
        Ok(set)
    }
}
