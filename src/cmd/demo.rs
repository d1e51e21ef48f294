//! `intact demo`: the whole path on images that the program draws itself. Enters: nothing but a folder. Leaves: a network with
//! predicted weights, the same trained, int8 ONNX, a flash image, and the gap report down to an emulated Cortex-M4. Refused: a build without training,
//! and (unless `--no-emulator`) a machine without QEMU or a compiler for the board, with the packages to install.

use crate::Outcome;
#[cfg(feature = "train")]
use crate::terminal::print;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Run the whole path on images that the program draws itself
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder to write into
    #[arg(long, default_value = "intact-demo", value_name = "FOLDER")]
    out: PathBuf,

    /// Do not run the emulated board
    #[arg(long)]
    no_emulator: bool,
}

#[cfg(not(feature = "train"))]
pub(crate) fn run(_: &Arguments) -> Result<Outcome> {
    anyhow::bail!(
        "this build cannot train (cargo feature `train`); build without --no-default-features to run the demo"
    )
}

#[cfg(feature = "train")]
pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    use super::data::DataArguments;
    use super::{export, sim};
    use crate::gap::{Ladder, Limits};
    use crate::model::{Bits, QuantizeArguments};
    use crate::predicted::Prediction;
    use crate::training::{Job, Start};
    use anyhow::Context;
    use exporter::checkpoint;
    use exporter::data::Split;
    use trainer::fit::{Config, Stage};
    use trainer::hypernet::Setting;

    // About a minute of training on two cores; the folder makes a second run instant.
    const IMAGES: usize = 20_000;
    const EPOCHS: u64 = 3;
    const EMULATED: usize = 50;
    const NETWORK: &str = "edge:id:0";

    let data = DataArguments { data: "shapes10".into(), hold_out: None, data_seed: 0 };
    let bits = Bits { weights: 8, activations: 8 };
    eprintln!("1. Predicting the weights of {NETWORK}, a network that was never trained, for {bits}");
    let prediction = Prediction {
        architecture: NETWORK,
        ghn: None,
        setting: Setting::new(bits.weights, bits.activations),
        data: &data.open(Split::Train, None)?,
        batches: 8,
        seed: 1,
        device: "cpu",
    };
    let predicted = prediction.network()?;
    std::fs::create_dir_all(&a.out).with_context(|| a.out.display().to_string())?;
    let begin = a.out.join("predicted.safetensors");
    checkpoint::save(&begin, &predicted, &Default::default())?;

    eprintln!("2. Training it on {IMAGES} drawn images with quantization in the loop, {EPOCHS} epochs");
    let recipe = Config {
        float: Stage { epochs: 0, ..Config::default().float },
        quantized: Stage { epochs: EPOCHS, rate: 0.05, warmup: 0 },
        ..Config::default()
    };
    let start = Start::Checkpoint(&begin);
    let job = Job { start, data: &data, images: Some(IMAGES), folder: &a.out, fresh: false, device: "cpu" };
    let finished = job.run(&recipe)?;
    if finished.stopped {
        print("stopped; the same command goes on where it was\n")?;
        return Ok(Outcome::Done);
    }

    eprintln!("3. Folding, quantizing, writing int8 ONNX and a flash image");
    let network = crate::model::load(&finished.network)?;
    let training = data.open_for(&network, Split::Train)?;
    let test = data.open_for(&network, Split::Test)?.sample(usize::MAX);
    let how = QuantizeArguments { bits: None, preset: None, ranges: None, calibration_images: 200 };
    let quantized = how.quantize(&network, &training)?.network;
    let written = export::write_as(&quantized, &a.out, &Default::default(), &Default::default())?;
    let image = std::fs::read(&written[1].0)?;

    eprintln!("4. Integers on this machine{}", if a.no_emulator { "" } else { " and on an emulated Cortex-M4" });
    let emulator = sim::EmulatorArguments { board: "mps2-an386".into(), jobs: 2 };
    let emulated = match a.no_emulator {
        true => None,
        false => Some(sim::emulate(&image, &test, EMULATED, &emulator)?.into_emulated()),
    };
    let ladder = Ladder { float: &network, quantized: &quantized, image: &image, data: &test, bits, layer_images: 20 };
    let report = ladder.climb(emulated.as_ref(), Limits { accuracy_drop: 1.0 })?;
    let (onnx, flash, checkpoint) = (written[0].0.display(), written[1].0.display(), finished.network.display());
    print(&format!(
        "{}\nwrote {checkpoint}\n      {onnx}\n      {flash}\n\n\
         next: intact inspect {onnx}\n      intact run {flash} PICTURE.png\n      intact sim {flash} --board stm32f446re --ops\n      \
         intact bench {flash}\n      intact init edge:id:7 --bits w4a4 --data PATH-TO-CIFAR-10 --out start.safetensors\n",
        report.text()
    ))?;
    Ok(if report.passed() { Outcome::Done } else { Outcome::CheckFailed })
}
