//! Trains a named network on a folder of images: `fit <network> <data> <checkpoint> [seed float-epochs quantized-epochs
//! batch]`, and goes on with a checkpoint that is already there. What the command line does with more comfort.

use burn::tensor::Device;
use exporter::data::{Options, Split, open};
use exporter::network::{Preprocessing, Shape};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use trainer::fit::{Config, Lines, Progress, resume, train};
use trainer::nets::{Init, Task, by_name};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, data, checkpoint, figures @ ..] = &arguments[..] else {
        return Err("usage: fit <network> <data> <checkpoint> [seed float-epochs quantized-epochs batch]".into());
    };
    let mut config = Config { checkpoint: Some(checkpoint.into()), ..Config::default() };
    let mut figures = figures.iter().map(|figure| figure.parse::<u64>());
    config.seed = figures.next().transpose()?.unwrap_or(config.seed);
    config.float.epochs = figures.next().transpose()?.unwrap_or(config.float.epochs);
    config.quantized.epochs = figures.next().transpose()?.unwrap_or(config.quantized.epochs);
    config.batch = figures.next().transpose()?.map_or(config.batch, |batch| batch as usize);

    let train_set = open(data, Split::Train, &Options::default())?;
    let test_set = open(data, Split::Test, &Options::default())?;
    let device = Device::flex();
    let (mut progress, stop) = (Lines::default(), AtomicBool::new(false));
    let trained = if Path::new(checkpoint).exists() {
        progress.note("resuming");
        resume(Path::new(checkpoint), &device, &train_set, Some(&test_set), &mut progress, &stop)?
    } else {
        let task = Task {
            input: Shape::new(3, train_set.height(), train_set.width()),
            preprocessing: Preprocessing::of(&train_set),
            labels: train_set.classes().to_vec(),
        };
        let network = by_name(name, &task, Init::HeNormal, config.seed)?;
        train(&config, network, &device, &train_set, Some(&test_set), &mut progress, &stop)?
    };
    if let Some(row) = trained.curve.last() {
        println!("{}", row.test_accuracy.unwrap_or_default());
    }
    Ok(())
}
