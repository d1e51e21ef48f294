//! `intact gap`: where simulation and device part ways. Enters: a checkpoint or float ONNX file and a data set. Leaves: the gap
//! report as text or JSON; exit code 1 when a limit is passed. Refused: an emulator that is not installed (unless
//! `--no-emulator` says that it is not wanted).

use super::data::DataArguments;
use super::sim::{self, EmulatorArguments};
use crate::Outcome;
use crate::gap::{Ladder, Limits};
use crate::model::{self, QuantizeArguments};
use crate::terminal::print;
use anyhow::Result;
use clap::{Args, ValueEnum};
use exporter::data::Split;
use std::path::PathBuf;

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people
    Text,
    /// For programs
    Json,
}

/// Compare float, folded, simulated, integer and emulated, image by image and op by op
#[derive(Args)]
pub(crate) struct Arguments {
    /// Checkpoint (.safetensors) or float network (.onnx)
    model: PathBuf,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    quantize: QuantizeArguments,

    /// Test images to answer; by default all
    #[arg(long, value_name = "COUNT")]
    images: Option<usize>,

    /// Images for the op-by-op table
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    layer_images: usize,

    /// Do not run the emulated board
    #[arg(long)]
    no_emulator: bool,

    /// Images to run on the emulated board
    #[arg(long, default_value_t = 200, value_name = "COUNT")]
    emulator_images: usize,

    #[command(flatten)]
    emulator: EmulatorArguments,

    /// Points of accuracy that the integer model may lose against float
    #[arg(long, default_value_t = 1.0, value_name = "POINTS")]
    max_drop: f64,

    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let network = model::load(&a.model)?;
    let training = a.data.open_for(&network, Split::Train)?;
    let test = a.data.open_for(&network, Split::Test)?;
    // The emulator and the op table get the first ones of it.
    let test = test.sample(a.images.unwrap_or(usize::MAX));
    let quantized = a.quantize.quantize(&network, &training)?.network;
    let image = exporter::image::write(&quantized)?;
    let emulated = match a.no_emulator {
        true => None,
        false => Some(sim::emulate(&image, &test, a.emulator_images, &a.emulator)?.into_emulated()),
    };
    let ladder = Ladder {
        float: &network,
        quantized: &quantized,
        image: &image,
        data: &test,
        bits: a.quantize.precision(&network).bits,
        layer_images: a.layer_images,
    };
    let report = ladder.climb(emulated.as_ref(), Limits { accuracy_drop: a.max_drop })?;
    print(&match a.format {
        Format::Text => report.text(),
        Format::Json => report.json()?,
    })?;
    Ok(if report.passed() { Outcome::Done } else { Outcome::CheckFailed })
}
