//! `intact quantize`: anybody's ONNX becomes integer ONNX and a flash image. Enters: a float network and images to
//! calibrate on, or a network that is quantized already. Leaves: `NAME-w8a8.onnx` and `NAME-w8a8.intact` (of a quantized
//! network the flash image only, its numbers untouched), a table of sizes, and with test images the accuracy. Refused: all
//! parts that cannot be imported, at once; budgets that no width fits; floors that even the widest misses.

use super::export;
use crate::Outcome;
use crate::foreign::{Images, Loaded, ModelArguments, shorten_names};
use crate::integers;
use crate::model::{Bits, Preset};
use crate::progress::Progress;
use crate::terminal::{columns, print, thousands};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use exporter::calibrate::{Clipping, Ranges};
use exporter::data::Split;
use exporter::execute::{Executor, Mode};
use exporter::network::{Network, Node};
use exporter::onnx::WriteOptions;
use exporter::pipeline::{self, Options, Prepared, Quantized};
use exporter::quantize::{Scheme, size};
use exporter::sensitivity::{Reference, Widths, first_that};
use exporter::size_table;
use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

/// Widths of weights to choose from.
const WIDTHS: [u8; 3] = [8, 4, 2];

/// How ranges are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RangeMethod {
    /// From the smallest to the largest value
    Minmax,
    /// From the 1st to the 99th percentile
    Percentile,
    /// With the smallest squared error
    Mse,
    /// With the smallest Kullback-Leibler divergence
    Entropy,
}

impl From<RangeMethod> for Clipping {
    fn from(method: RangeMethod) -> Self {
        match method {
            RangeMethod::Minmax => Self::MinMax,
            RangeMethod::Percentile => Self::PAPER,
            RangeMethod::Mse => Self::Mse,
            RangeMethod::Entropy => Self::Entropy,
        }
    }
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rounding {
    /// The nearest
    Nearest,
    /// The one with which the layer's outputs on the calibration images err least; for 4 bits and fewer
    Compensated,
}

/// Bytes, written `65536`, `64KiB` or `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size; write 65536, 64KiB or 1MiB");
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return Err(wrong()),
        };
        digits.parse().ok().and_then(|n: u64| n.checked_mul(factor)).map(Self).ok_or_else(wrong)
    }
}

/// How to calibrate and quantize: shared with `sensitivity`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RecipeArguments {
    /// Images to calibrate on: class folders, a folder of pictures, or a name that `--data` takes elsewhere
    #[arg(long, value_name = "DIR")]
    pub(crate) calibration: Option<String>,

    /// Calibration images to use, spread evenly over all there are
    #[arg(long, default_value_t = 500, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) images: u32,

    /// Bits of weights and activations
    #[arg(long, default_value = "w8a8", value_name = "WxAy")]
    pub(crate) bits: Bits,

    /// Engine that the file is for: form of the integers and of the file
    #[arg(long, value_enum, default_value_t = Preset::Mobile)]
    preset: Preset,

    /// Signed symmetric weights with a scale for each output channel, whatever the preset
    #[arg(long)]
    per_channel: bool,

    /// Ranges of the activations; by default those of the preset, mostly minmax
    #[arg(long, value_enum)]
    range: Option<RangeMethod>,

    /// Ranges of the weights
    #[arg(long, value_enum, default_value_t = RangeMethod::Minmax)]
    weight_range: RangeMethod,

    /// Scale neighbouring layers against each other first, so that their channels are alike
    #[arg(long)]
    equalize: bool,

    /// Which integer a weight becomes
    #[arg(long, value_enum, default_value_t = Rounding::Nearest)]
    rounding: Rounding,

    /// Take the mean error of each channel back out of the biases
    #[arg(long)]
    bias_correction: bool,
}

impl RecipeArguments {
    pub(crate) fn options(&self) -> Options {
        let mut options = self.preset.target().options(self.bits.weights, self.bits.activations);
        if self.per_channel {
            options.weights.scheme = Scheme::SymmetricPerChannel;
        }
        options.ranges = Some(Ranges::Measured(self.clipping()));
        options.weights.clipping = self.weight_range.into();
        options.equalize = self.equalize;
        options.compensate = self.rounding == Rounding::Compensated;
        options.correct = self.bias_correction;
        options
    }

    /// How ranges of activations are found.
    fn clipping(&self) -> Clipping {
        self.range.map_or_else(|| self.preset.target().clipping(), Clipping::from)
    }

    /// What the ONNX file is made for.
    fn file(&self) -> WriteOptions {
        let preset = self.preset.target();
        WriteOptions { preset: Some(preset), storage: preset.storage(), ..WriteOptions::default() }
    }

    /// What every width costs, tensor by tensor.
    fn sizes(&self, prepared: &Prepared) -> Result<Vec<size_table::Row>> {
        let weights = |bits| Self { bits: Bits { weights: bits, ..self.bits }, ..self.clone() }.options().weights;
        let arrange = |network| self.preset.target().arrange(network);
        Ok(size_table::measure(&prepared.network, weights, arrange, &self.file())?)
    }

    /// The calibration images for a float network.
    pub(crate) fn open(&self, network: &Network) -> Result<Images> {
        let folder = self.calibration.as_ref().context(
            "a float network needs images to calibrate on: give --calibration DIR (some hundred training images)",
        )?;
        Images::open(folder, network, Split::Train, Some(self.images as usize))
    }

    /// Folds, equalizes and calibrates, and tells on stderr what that did.
    pub(crate) fn prepare(&self, network: &Network, images: &Images) -> Result<Prepared> {
        let prepared = pipeline::prepare(network, &images.pixels, &self.options())?;
        let range = self.clipping();
        eprintln!("{}: ranges by {range} on {} images of {}", network.name, images.count, images.name);
        eprintln!("  folding BatchNorm moved an output by at most {:.1e}", prepared.folding.largest);
        if let Some((pairs, difference)) = &prepared.equalizing {
            let worst = |which: usize| pairs.iter().map(|pair| pair.spread[which]).fold(1.0, f64::max);
            eprintln!(
                "  equalized {} pairs of layers: largest over smallest channel {:.1} -> {:.1}; outputs moved by at most {:.1e}",
                pairs.len(),
                worst(0),
                worst(1),
                difference.largest
            );
        }
        Ok(prepared)
    }

    /// Quantizes each layer to its `bits`.
    pub(crate) fn quantize(
        &self,
        prepared: Prepared,
        images: &Images,
        bits: impl Fn(&Node) -> u8,
    ) -> Result<Quantized> {
        let layers = size::sizes(&prepared.network).layers.len() as u64;
        let options = self.options();
        let passes = u64::from(options.compensate) + u64::from(options.correct);
        let progress = (passes > 0).then(|| Progress::new("rounding and biases", passes * layers, "layers"));
        let step = || progress.iter().for_each(|p| p.add(1));
        let mut quantized = prepared.quantize(&images.pixels, &options, bits, step)?;
        quantized.network = self.preset.target().arrange(quantized.network);
        Ok(quantized)
    }
}

/// Quantize an ONNX file of any exporter to integer ONNX and a flash image
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    recipe: RecipeArguments,

    /// Choose the bits of each layer's weights so that the flash image is no larger, e.g. 64KiB
    #[arg(long, value_name = "SIZE", conflicts_with = "accuracy_floor")]
    budget: Option<Bytes>,

    /// Choose the fewest bits for each layer's weights with which the integer network still answers so many per cent of the
    /// calibration images rightly (they must lie in class folders)
    #[arg(long, value_name = "PERCENT")]
    accuracy_floor: Option<f64>,

    /// Keep the Softmax at the end of a float network, as integers: shares of 1 in 256 steps. Without this the network ends with
    /// the logits, whose order is the same
    #[arg(long)]
    keep_softmax: bool,

    /// Folder to write into
    #[arg(long, default_value = "export", value_name = "FOLDER")]
    out: PathBuf,

    #[command(flatten)]
    target: export::TargetArguments,

    /// Images in class folders to measure the accuracy on
    #[arg(long, value_name = "DIR")]
    test: Option<String>,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let mut loaded = a.model.load_with(a.keep_softmax)?;
    let test = a.test.as_ref().map(|dir| Images::open(dir, &loaded.network, Split::Test, None)).transpose()?;
    if let Some(test) = &test {
        name_classes(&mut loaded.network, test);
    }
    if loaded.quantized {
        return already_quantized(a, loaded, test.as_ref());
    }
    shorten_names(&mut loaded.network);
    let images = a.recipe.open(&loaded.network)?;
    name_classes(&mut loaded.network, &images);
    let float = loaded.network;
    let prepared = a.recipe.prepare(&float, &images)?;
    let table = a.recipe.sizes(&prepared)?;
    let quantized = match (a.budget, a.accuracy_floor) {
        (None, None) => a.recipe.quantize(prepared, &images, |_| a.recipe.bits.weights)?,
        _ => mixed(a, &prepared, &images)?,
    };
    let mut network = quantized.network;
    network.name = match (a.budget, a.accuracy_floor) {
        (None, None) => format!("{}-{}", float.name, a.recipe.bits).to_lowercase(),
        _ => format!("{}-mixed-a{}", float.name, a.recipe.bits.activations),
    };
    if let Some(most) = quantized.corrections.iter().max_by(|x, y| x.largest.total_cmp(&y.largest)) {
        eprintln!("  biases moved by at most {:.2e} (`{}`)", most.largest, most.node);
    }

    let moved: usize = quantized.roundings.iter().filter_map(|rounding| rounding.moved).sum();
    if !quantized.roundings.is_empty() {
        let kept: Vec<&str> =
            quantized.roundings.iter().filter(|r| r.moved.is_none()).map(|r| r.node.as_str()).collect();
        eprintln!("  {} weights moved off their nearest integer", thousands(moved as u64));
        if !kept.is_empty() {
            eprintln!(
                "  too many weights for each output to look at together, rounded to the nearest: {}",
                kept.join(", ")
            );
        }
    }
    let written = export::write_as(&network, &a.out, &a.recipe.file(), &a.target)?;
    let mut text = sizes(&table, &network);
    text.push('\n');
    text.push_str(&totals(&float, &network, loaded.bytes.len(), &written)?);
    if let Some(test) = &test {
        text.push('\n');
        text.push_str(&accuracy(Some(&float), &network, test)?);
    }
    let (onnx, image) = (written[0].0.display(), written[1].0.display());
    text.push_str(&format!(
        "\nnext: intact verify {onnx} --data {}\n      intact run {image} PICTURE.png\n",
        a.test.as_ref().or(a.recipe.calibration.as_ref()).map_or("DIR", String::as_str)
    ));
    print(&text)?;
    Ok(Outcome::Done)
}

/// The image of a quantized file: encodings and integers go into it as they are.
fn already_quantized(a: &Arguments, loaded: Loaded, test: Option<&Images>) -> Result<Outcome> {
    ensure!(
        a.budget.is_none() && a.accuracy_floor.is_none(),
        "{} is quantized already: its widths are what they are",
        a.model.model.display()
    );
    eprintln!("{} is quantized already: its numbers go into the flash image untouched", a.model.model.display());
    let network = loaded.network;
    let image = a.target.image(&network)?;
    std::fs::create_dir_all(&a.out).with_context(|| a.out.display().to_string())?;
    let path = a.out.join(format!("{}.intact", network.name));
    exporter::file::write_atomically(&path, &image)?;
    let mut text = layers(&network);
    let arena = exporter::image::arena(&network)?.bytes;
    text.push_str(&format!(
        "\n{}  {} bytes in flash, {} bytes of arena; the ONNX file has {} bytes\n",
        path.display(),
        thousands(image.len() as u64),
        thousands(arena.into()),
        thousands(loaded.bytes.len() as u64)
    ));
    if let Some(test) = test {
        text.push('\n');
        text.push_str(&accuracy(None, &network, test)?);
    }
    text.push_str(&format!("\nnext: intact run {} PICTURE.png\n", path.display()));
    print(&text)?;
    Ok(Outcome::Done)
}

/// Bits for each layer, by a budget or by a floor.
fn mixed(a: &Arguments, prepared: &Prepared, images: &Images) -> Result<Quantized> {
    let reference = Reference::new(&prepared.network, &images.pixels, images.labels.as_deref())?;
    let widths: Vec<u8> = WIDTHS.into_iter().filter(|bits| *bits <= a.recipe.bits.weights.max(2)).collect();
    let layers = size::sizes(&prepared.network).layers.len();
    let measured = {
        let progress = Progress::new("sensitivity", (layers * widths.len()) as u64, "layers");
        let weights = a.recipe.options().weights;
        Widths::measure(&prepared.network, widths, weights, &reference, || progress.add(1))?
    };
    let steps = measured.steps();
    let quantize = |count: usize| -> Result<Quantized> {
        let bits: HashMap<&str, u8> =
            measured.layers.iter().map(|layer| layer.node.as_str()).zip(measured.after(&steps, count)).collect();
        a.recipe.quantize(prepared.clone(), images, |node| bits[node.name.as_str()])
    };
    let (count, what) = if let Some(Bytes(budget)) = a.budget {
        let bytes = |count| -> Result<u64> { Ok(exporter::image::write(&quantize(count)?.network)?.len() as u64) };
        let Some(count) = first_that(steps.len(), |count| Ok::<_, anyhow::Error>(bytes(count)? <= budget))? else {
            let least = bytes(steps.len())?;
            bail!(
                "the flash image has {} bytes with {} bits in every layer: more than the budget of {}",
                thousands(least),
                measured.bits.last().copied().unwrap_or_default(),
                thousands(budget)
            );
        };
        (count, format!("a budget of {} bytes", thousands(budget)))
    } else {
        let floor = a.accuracy_floor.unwrap_or_default();
        let labels = images.labels.as_ref().context("an accuracy floor needs calibration images in class folders")?;
        let percent = |count| -> Result<f64> {
            let answers = integers::classify(&exporter::image::write(&quantize(count)?.network)?, &images.pixels)?;
            let right = answers.iter().zip(labels).filter(|(answer, label)| **answer == usize::from(**label)).count();
            Ok(100.0 * right as f64 / labels.len() as f64)
        };
        // The first that falls below; the one before it is the narrowest that holds.
        let first = first_that(steps.len(), |count| Ok::<_, anyhow::Error>(percent(count)? < floor))?;
        let Some(count) = first.unwrap_or(steps.len() + 1).checked_sub(1) else {
            bail!(
                "with {} bits in every layer {:.2} % of the calibration images are answered rightly: below the floor of {floor} %",
                measured.bits[0],
                percent(0)?
            );
        };
        (count, format!("{:.2} % of the calibration images right, floor {floor} %", percent(count)?))
    };
    eprintln!("chose bits for {layers} layers: {what}");
    quantize(count)
}

/// Where the network has no class names, those of the folders, if there are as many.
fn name_classes(network: &mut Network, images: &Images) {
    if network.labels.is_empty() && images.labels.is_some() {
        eprintln!("note: class names are those of the folders of {}, sorted", images.name);
        network.labels.clone_from(&images.classes);
    }
}

/// Bytes of every tensor in every width, on disk and in flash, and the bits that each layer has got.
fn sizes(table: &[size_table::Row], network: &Network) -> String {
    let mut rows = vec![
        ["", "", "", "on disk", "", "", "", "in flash", "", ""].map(String::from).to_vec(),
        ["tensor", "elements", "bits", "float", "int8", "int4", "int2", "int8", "int4", "int2"]
            .map(String::from)
            .to_vec(),
    ];
    for row in table {
        let layer = row.what.strip_suffix(" weight").and_then(|node| shape(network, node));
        let bits = layer.map_or_else(String::new, |(.., bits)| bits.to_string());
        let mut cells = vec![row.what.clone(), row.elements.map_or_else(String::new, |n| thousands(n as u64)), bits];
        cells.extend(row.disk.iter().chain(&row.flash).map(|&bytes| thousands(bytes as u64)));
        rows.push(cells);
    }
    columns(&rows)
}

/// Bytes of each layer's parameters in every width.
fn layers(network: &Network) -> String {
    let mut rows =
        vec![["layer", "weights", "bits", "float", "int8", "int4", "int2", "this file"].map(String::from).to_vec()];
    let mut sums = [0u64; 5];
    for size in size::sizes(network).layers {
        let Some((weights, channels, scales, bits)) = shape(network, &size.name) else { continue };
        let at = |bits: u8| size::at_width(weights, channels, scales, bits);
        let bytes = [size.float, at(8), at(4), at(2), size.integer];
        sums.iter_mut().zip(bytes).for_each(|(sum, bytes)| *sum += bytes);
        let mut row = vec![size.name, thousands(weights as u64), bits.to_string()];
        row.extend(bytes.map(thousands));
        rows.push(row);
    }
    let mut row = vec!["all parameters, bytes".to_owned(), String::new(), String::new()];
    row.extend(sums.map(thousands));
    rows.push(row);
    columns(&rows)
}

/// Weights, output channels, scales and bits of a layer.
fn shape(network: &Network, name: &str) -> Option<(usize, usize, usize, u8)> {
    use exporter::network::Op;
    let node = network.nodes.iter().find(|node| node.name == name)?;
    let (integers, channels) = match &node.op {
        Op::Conv2d(conv) => (conv.integers.as_ref()?, conv.out_channels),
        Op::Dense(dense) => (dense.integers.as_ref()?, dense.out_features),
        _ => return None,
    };
    Some((integers.weight.len(), channels, integers.encoding.scale.len(), integers.encoding.bits))
}

/// Bytes of whole files.
fn totals(float: &Network, network: &Network, file: usize, written: &[(PathBuf, usize)]) -> Result<String> {
    let share = |bytes: usize| format!("{:.1} %", 100.0 * bytes as f64 / file as f64);
    let mut rows = vec![["file", "bytes", "of the float file"].map(String::from).to_vec()];
    rows.push(vec!["float, on disk".into(), thousands(file as u64), share(file)]);
    for (path, bytes) in written {
        let place = if path.extension().is_some_and(|e| e == "onnx") { "on disk" } else { "in flash" };
        rows.push(vec![format!("{}, {place}", path.display()), thousands(*bytes as u64), share(*bytes)]);
    }
    let arena = exporter::image::arena(network)?.bytes;
    let parameters = float.parameters() * 4;
    Ok(format!(
        "{}arena (RAM for all activations and scratch): {} bytes; float parameters alone: {} bytes\n",
        columns(&rows),
        thousands(arena.into()),
        thousands(parameters)
    ))
}

/// Right answers of the float network and of its integers.
fn accuracy(float: Option<&Network>, network: &Network, test: &Images) -> Result<String> {
    let labels = test.labels.as_ref().context("accuracy needs test images in class folders")?;
    let progress = Progress::new("test", 2 * test.count as u64, "images");
    let answers = integers::classify(&exporter::image::write(network)?, &test.pixels)?;
    progress.add(test.count as u64);
    let right = |answers: &[usize]| answers.iter().zip(labels).filter(|(a, l)| **a == usize::from(**l)).count();
    let percent = |count: usize| 100.0 * count as f64 / test.count as f64;
    let integer = right(&answers);
    let mut text = format!("{} test images\n", test.count);
    let mut rows = Vec::new();
    if let Some(float) = float {
        let reference = Executor::new(float, Mode::Float)?.classify(&test.pixels)?;
        let correct = right(&reference);
        rows.push(vec!["float".into(), format!("{correct} right"), format!("{:.2} %", percent(correct))]);
        rows.push(vec![
            "integer".into(),
            format!("{integer} right"),
            format!("{:.2} %", percent(integer)),
            format!("{:+.2} points", percent(integer) - percent(correct)),
            format!("{} other answers", answers.iter().zip(&reference).filter(|(a, b)| a != b).count()),
        ]);
    } else {
        rows.push(vec!["integer".into(), format!("{integer} right"), format!("{:.2} %", percent(integer))]);
    }
    progress.add(test.count as u64);
    text.push_str(&columns(&rows));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        assert_eq!("64KiB".parse(), Ok(Bytes(65_536)));
        assert_eq!("3MiB".parse(), Ok(Bytes(3 << 20)));
        assert_eq!("1000".parse(), Ok(Bytes(1000)));
        for text in ["", "KiB", "64kb", "64 KiB", "-1", "99999999999999999999"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }
}
