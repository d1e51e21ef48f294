//! Networks and images from anywhere. Enters: an ONNX file of any exporter (or a checkpoint), what its pixels are to
//! become, and folders of images with or without labels. Leaves: a network and pixels that fit it. Refused: what the readers
//! refuse, and classes that do not match the network's.

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use exporter::data::{self, DataError, Dataset, Options, Split};
use exporter::network::{Network, Preprocessing};
use exporter::onnx::{ReadError, ReadOptions};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What a network reads where a pixel is 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pixels {
    /// The pixel itself
    #[value(name = "0..255")]
    Byte,
    /// The pixel divided by 255
    #[value(name = "0..1")]
    Unit,
    /// From -1 to 1
    #[value(name = "-1..1")]
    Centred,
    /// Mean and deviation of ImageNet, as torchvision has them
    #[value(name = "imagenet")]
    ImageNet,
}

/// The network, and how to feed it.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArguments {
    /// ONNX file (opset 9 to 25, from any exporter) or checkpoint (.safetensors)
    pub(crate) model: PathBuf,

    /// What the network reads where a pixel is 0 to 255; files of this program say it themselves
    #[arg(long, value_enum, allow_hyphen_values = true, conflicts_with_all = ["mean", "std"])]
    pixels: Option<Pixels>,

    /// Mean of each channel of pixels scaled to 0..1, subtracted first
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "std", allow_hyphen_values = true)]
    mean: Option<Vec<f32>>,

    /// Deviation of each channel of pixels scaled to 0..1, divided by then
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "mean")]
    std: Option<Vec<f32>>,
}

/// A network that came from a file.
pub(crate) struct Loaded {
    /// Named after the file.
    pub(crate) network: Network,
    /// Whether it has its integers already.
    pub(crate) quantized: bool,
    /// Bytes of the file.
    pub(crate) bytes: Vec<u8>,
}

impl ModelArguments {
    /// Reads the file and tells its notes on stderr.
    pub(crate) fn load(&self) -> Result<Loaded> {
        self.load_with(false)
    }

    /// The same, with the Softmax at the end of a float network if asked for.
    pub(crate) fn load_with(&self, keep_softmax: bool) -> Result<Loaded> {
        let name = self.model.display().to_string();
        let bytes = std::fs::read(&self.model).with_context(|| name.clone())?;
        let folder =
            self.model.parent().map(|folder| if folder == Path::new("") { Path::new(".") } else { folder }.to_owned());
        let options = ReadOptions { keep_softmax, folder, ..ReadOptions::default() };
        let (mut network, quantized) = match self.model.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => (exporter::checkpoint::load(&self.model)?.0, false),
            Some("onnx") => {
                let read = |options: &ReadOptions| exporter::onnx::read(&bytes, &name, options);
                let imported = match read(&options) {
                    Err(ReadError::NoPreprocessing { channels, .. }) => {
                        let preprocessing = self.preprocessing(channels)?;
                        ensure!(
                            preprocessing.is_some(),
                            "{name}: the file does not say how pixels become values; say it with --pixels 0..255, 0..1, \
                             -1..1 or imagenet, or with --mean and --std"
                        );
                        read(&ReadOptions { preprocessing, ..options })
                    }
                    other => other,
                }?;
                for note in &imported.notes {
                    eprintln!("note: {note}");
                }
                (imported.network, imported.quantized)
            }
            _ => bail!("{name}: expected an ONNX file (.onnx) or a checkpoint (.safetensors)"),
        };
        if let Some(preprocessing) = self.preprocessing(network.tensors[network.input].shape.c)? {
            network.preprocessing = preprocessing;
        }
        if let Some(stem) = self.model.file_stem().and_then(|stem| stem.to_str()) {
            network.name = stem.to_owned();
        }
        Ok(Loaded { network, quantized, bytes })
    }

    /// What the arguments say about pixels, if anything.
    fn preprocessing(&self, channels: usize) -> Result<Option<Preprocessing>> {
        let (mean, std) = match (self.pixels, &self.mean, &self.std) {
            (None, Some(mean), Some(std)) => (mean.clone(), std.clone()),
            (None, ..) => return Ok(None),
            (Some(Pixels::Byte), ..) => (vec![0.0; channels], vec![1.0 / 255.0; channels]),
            (Some(Pixels::Unit), ..) => (vec![0.0; channels], vec![1.0; channels]),
            (Some(Pixels::Centred), ..) => (vec![0.5; channels], vec![0.5; channels]),
            (Some(Pixels::ImageNet), ..) => (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]),
        };
        ensure!(
            mean.len() == channels && std.len() == channels,
            "{} means and {} deviations for the {channels} channels of {}",
            mean.len(),
            std.len(),
            self.model.display()
        );
        Ok(Some(Preprocessing { mean, std }))
    }
}

/// Longest name that is left as it is. Every name is in the written file some twenty times.
const LONGEST_NAME: usize = 24;

/// Shortens names of nodes and tensors beyond [`LONGEST_NAME`] to the end of their path. TensorFlow's converters join the names
/// of all that they have fused with `;`, the layer itself last, where `/ReadVariableOp` and more may follow its name.
pub(crate) fn shorten_names(network: &mut Network) {
    let short = |name: &str, used: &mut HashSet<String>| {
        let last = name.rsplit(';').find(|part| !part.is_empty()).unwrap_or(name);
        let layer = last.find("/ReadVariableOp").map_or(last, |end| &last[..end]);
        let starts = std::iter::once(0).chain(layer.match_indices('/').map(|(at, _)| at + 1));
        let stem = starts.map(|start| &layer[start..]).find(|end| !end.is_empty() && end.len() <= LONGEST_NAME);
        let (stem, mut number) = (stem.unwrap_or(layer), 1);
        let mut unused = stem.to_owned();
        while !used.insert(unused.clone()) {
            number += 1;
            unused = format!("{stem}_{number}");
        }
        unused
    };
    let shorten = |names: Vec<&mut String>| {
        let (long, kept): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.len() > LONGEST_NAME);
        let mut used: HashSet<String> = kept.into_iter().map(|name| name.clone()).collect();
        long.into_iter().for_each(|name| *name = short(name, &mut used));
    };
    shorten(network.nodes.iter_mut().map(|node| &mut node.name).collect());
    shorten(network.tensors.iter_mut().map(|tensor| &mut tensor.name).collect());
}

/// Images of the size that a network reads.
pub(crate) struct Images {
    /// For people.
    pub(crate) name: String,
    /// `N H W C`.
    pub(crate) pixels: Vec<u8>,
    /// One for each image, where the images lie in class folders.
    pub(crate) labels: Option<Vec<u16>>,
    /// Class names, where there are labels.
    pub(crate) classes: Vec<String>,
    /// How many.
    pub(crate) count: usize,
}

impl Images {
    /// Opens images for `network`: `shapes10`, CIFAR-10 in its binary form, a folder of class folders (with or without
    /// `train/` and `test/`), or a folder of pictures. Of more than `count` images, so many are taken at equal distances,
    /// so that every class has its share.
    pub(crate) fn open(spec: &str, network: &Network, split: Split, count: Option<usize>) -> Result<Self> {
        let shape = network.tensors[network.input].shape;
        ensure!(shape.c == 3, "network `{}` reads {} channels; images have 3 (RGB)", network.name, shape.c);
        let size = [shape.h, shape.w];
        let pictures = loose_pictures(Path::new(spec));
        if !pictures.is_empty() {
            let chosen: Vec<&PathBuf> = spread(pictures.len(), count).map(|i| &pictures[i]).collect();
            let mut pixels = Vec::new();
            for picture in &chosen {
                pixels.extend(data::read_image(picture, size[0], size[1])?);
            }
            return Ok(Self { name: spec.into(), pixels, labels: None, classes: Vec::new(), count: chosen.len() });
        }
        let set = open_set(spec, split, size)?;
        for note in set.notes() {
            eprintln!("note: {note}");
        }
        let logits = network.tensors[network.output].shape.len();
        let labelled = set.classes().len() == logits;
        ensure!(
            split == Split::Train || labelled,
            "`{spec}` has {} classes, network `{}` has {logits} outputs",
            set.classes().len(),
            network.name
        );
        ensure!(
            !labelled || network.labels.is_empty() || network.labels == set.classes(),
            "`{spec}` has classes {:?}, network `{}` was made for {:?}",
            set.classes(),
            network.name,
            network.labels
        );
        let set = set.subset(spread(set.len(), count));
        Ok(Self {
            name: spec.into(),
            pixels: set.images().to_vec(),
            labels: labelled.then(|| set.labels().to_vec()),
            classes: set.classes().to_vec(),
            count: set.len(),
        })
    }
}

/// Class folders without `train/` and `test/` are taken as they are: who names a folder means all of it.
fn open_set(spec: &str, split: Split, size: [usize; 2]) -> Result<Dataset> {
    let options = Options { size: Some(size), ..Options::default() };
    match data::open(spec, split, &options) {
        Err(DataError::Layout { .. }) if split == Split::Test && !Path::new(spec).join("train").exists() => {
            Ok(data::open(spec, Split::Train, &options)?)
        }
        other => Ok(other?),
    }
}

/// Pictures that lie in the folder itself, sorted by name; none if there are folders in it.
fn loose_pictures(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    if paths.iter().any(|path| path.is_dir()) {
        return Vec::new();
    }
    let is_picture = |path: &Path| {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
    };
    let mut pictures: Vec<PathBuf> = paths.into_iter().filter(|path| is_picture(path)).collect();
    pictures.sort();
    pictures
}

/// `count` of `len` indices at equal distances; all of them without a count.
fn spread(len: usize, count: Option<usize>) -> impl Iterator<Item = usize> {
    let count = count.unwrap_or(len).min(len);
    (0..count).map(move |i| i * len / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_their_end_and_stay_apart() {
        use exporter::network::{Op, Shape};
        let preprocessing = Preprocessing { mean: vec![0.0], std: vec![1.0] };
        let mut network = Network::new("n", Shape::new(1, 2, 2), preprocessing, Vec::new());
        let long = "model/activation/Relu;model/batch_normalization/FusedBatchNormV3;";
        let names = [
            "relu".to_owned(),
            format!("{long}model/conv2d_4/Conv2D"),
            format!("{long}model/conv2d_5/BiasAdd/ReadVariableOp/resource1"),
            "/features/features.12/block.3/Conv".to_owned(),
            format!("{long}relu"),
        ];
        for name in &names {
            network.push(name, Op::RELU, &[network.output]).unwrap();
        }
        shorten_names(&mut network);
        let nodes: Vec<_> = network.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(
            nodes,
            ["relu", "model/conv2d_4/Conv2D", "model/conv2d_5/BiasAdd", "features.12/block.3/Conv", "relu_2"]
        );
        assert!(network.tensors.iter().all(|tensor| tensor.name.len() <= LONGEST_NAME));
        network.check().unwrap();
    }

    #[test]
    fn chosen_images_are_spread_over_all() {
        assert_eq!(spread(10, Some(4)).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(3, Some(9)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(3, None).count(), 3);
        assert_eq!(spread(0, Some(2)).count(), 0);
    }
}
