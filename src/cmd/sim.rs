//! `intact sim`: runs a flash image on an emulated board. Enters: a flash image, a board, images. Leaves: whether it fits, the
//! answers, retired instructions an image, stack, flash and RAM bytes; the program for the real board, if asked for. A stack
//! deeper than the board's file sets aside is a failed check. Refused, before anything runs: a model that does not fit the
//! board, with the numbers (exit code 1); an unknown board; missing tools, with the package to install.

use super::data::DataArguments;
use crate::Outcome;
use crate::gap::Emulated;
use crate::progress::Progress;
use crate::terminal::{columns, print, thousands};
use anyhow::{Context, Result};
use clap::Args;
use exporter::data::{Dataset, Split};
use firmware_sim::{Board, BuildOptions, Firmware, Placement, Report, RunOptions};
use runtime::image::Image;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Where to emulate.
#[derive(Args, Clone, Debug)]
pub(crate) struct EmulatorArguments {
    /// Board by name (see `intact boards`) or the path of a board file (.toml)
    #[arg(long, default_value = "mps2-an386", value_name = "BOARD")]
    pub(crate) board: String,

    /// QEMU processes that share the images; results do not depend on it
    #[arg(long, default_value_t = 2, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) jobs: u8,
}

/// Run a flash image on an emulated board, and check that it fits
#[derive(Args)]
pub(crate) struct Arguments {
    /// Flash image (.intact)
    model: PathBuf,

    #[command(flatten)]
    data: DataArguments,

    /// Test images to run
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    images: usize,

    #[command(flatten)]
    emulator: EmulatorArguments,

    /// Count the instructions of each op
    #[arg(long)]
    ops: bool,

    /// Link only the kernels that the model's ops need; the table then says what all of them take
    #[arg(long)]
    only_ops: bool,

    /// Also write the program for the board itself, to be flashed (docs/boards.md)
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let bytes = std::fs::read(&a.model).with_context(|| a.model.display().to_string())?;
    let image = Image::check(&bytes).with_context(|| a.model.display().to_string())?;
    let [height, width, _] = image.input().shape();
    let board = Board::load(&a.emulator.board)?;
    // Before anything is read or drawn: a model that cannot fit is the answer.
    let options = BuildOptions { only_ops: a.only_ops, ..BuildOptions::default() };
    let firmware = match Firmware::build(&a.model, &board, Placement::Emulator, &options) {
        Err(firmware_sim::Error::TooLarge(verdict)) => {
            print(&format!("{verdict}\n"))?;
            return Ok(Outcome::CheckFailed);
        }
        other => other?,
    };
    if let Some(path) = &a.elf {
        let firmware = Firmware::build(&a.model, &board, Placement::Board, &options)?;
        let program = std::fs::read(firmware.program()).with_context(|| firmware.program().display().to_string())?;
        exporter::file::write_atomically(path, &program)?;
        eprintln!("wrote {}", path.display());
    }
    let test = a.data.open(Split::Test, Some([height, width]))?;
    let test = test.sample(a.images);
    let options = RunOptions { count: true, count_ops: a.ops, jobs: a.emulator.jobs.into(), ..RunOptions::default() };
    let report = on_board(&firmware, &test, &options)?;

    let answers = report.inferences.iter().zip(test.labels());
    let signed = image.output().repr.signed;
    let correct = answers.filter(|(i, label)| best(&i.logits, signed) == usize::from(**label)).count();
    let counts: Vec<u64> = report.inferences.iter().filter_map(|i| i.instructions).collect();
    let mut text = format!("{}\n\n", firmware.verdict());
    let mut rows = vec![
        vec!["images".into(), test.len().to_string()],
        vec!["top-1".into(), format!("{:.2} %", 100.0 * correct as f64 / test.len().max(1) as f64)],
    ];
    if let (Some(least), Some(most)) = (counts.iter().min(), counts.iter().max()) {
        let mean = counts.iter().sum::<u64>() / counts.len() as u64;
        rows.push(vec!["instructions an image, mean".into(), thousands(mean)]);
        rows.push(vec!["least, most".into(), format!("{}, {}", thousands(*least), thousands(*most))]);
    }
    rows.push(vec!["stack high-water, bytes".into(), format!("{} of {} reserved", report.stack_used, board.stack)]);
    rows.push(vec!["flash, bytes".into(), thousands(report.sections.flash().into())]);
    rows.push(vec!["of these the runtime's code".into(), thousands(report.sections.runtime.into())]);
    if a.only_ops {
        let all = Firmware::build(&a.model, &board, Placement::Emulator, &BuildOptions::default())?;
        rows.push(vec!["with the kernels of every op".into(), thousands(all.sections().runtime.into())]);
    }
    rows.push(vec!["RAM without stack, bytes".into(), thousands(report.sections.ram().into())]);
    text += &columns(&rows);
    if a.ops && !report.inferences.is_empty() {
        text += "\n";
        text += &op_table(&image, &report);
    }
    let too_deep = report.stack_used > board.stack;
    if too_deep {
        text += &format!("\nFAILED: the stack took more than board {} sets aside for it\n", board.name);
    }
    print(&text)?;
    Ok(if too_deep { Outcome::CheckFailed } else { Outcome::Done })
}

/// Mean instructions of each op.
fn op_table(image: &Image<'_>, report: &Report) -> String {
    let runs = report.inferences.len() as u64;
    let mean_of = |op: usize| report.inferences.iter().filter_map(|i| i.op_instructions.get(op)).sum::<u64>() / runs;
    let mean: Vec<u64> = (0..image.ops().len()).map(mean_of).collect();
    let total: u64 = mean.iter().sum();
    let mut rows = vec![["op", "kind", "MAC", "instructions", "per MAC", "share"].map(String::from).to_vec()];
    for (op, &instructions) in image.ops().zip(&mean) {
        let per_mac = match op.macs() {
            0 => "-".to_owned(),
            macs => format!("{:.2}", instructions as f64 / macs as f64),
        };
        rows.push(vec![
            op.name().to_owned(),
            op.repr.kind.name().to_owned(),
            thousands(op.macs()),
            thousands(instructions),
            per_mac,
            format!("{:.1} %", 100.0 * instructions as f64 / total.max(1) as f64),
        ]);
    }
    columns(&rows)
}

/// Index of the largest stored logit; the lowest index wins a tie.
fn best(logits: &[u8], signed: bool) -> usize {
    let value = |byte: u8| if signed { i16::from(byte as i8) } else { i16::from(byte) };
    (0..logits.len()).rev().max_by_key(|&i| value(logits[i])).unwrap_or(0)
}

/// What a board answered, and what the firmware takes.
pub(crate) struct Emulation {
    board: String,
    report: Report,
}

impl Emulation {
    /// The answers alone, as the gap report wants them.
    pub(crate) fn into_emulated(self) -> Emulated {
        let inferences = self.report.inferences.into_iter();
        let (logits, checksums) = inferences.map(|i| (i.logits, i.crcs)).unzip();
        Emulated { board: self.board, logits, checksums }
    }
}

/// Runs the first `count` images of `test` on the board.
pub(crate) fn emulate(image: &[u8], test: &Dataset, count: usize, a: &EmulatorArguments) -> Result<Emulation> {
    let board = Board::load(&a.board)?;
    let folder = tempfile::tempdir().context("a temporary folder for the flash image")?;
    let path = folder.path().join("model.intact");
    exporter::file::write_atomically(&path, image)?;
    eprintln!("building the firmware for {}", board.name);
    let firmware = Firmware::build(&path, &board, Placement::Emulator, &BuildOptions::default())?;
    let images = test.subset(0..count.min(test.len()));
    let options = RunOptions { jobs: a.jobs.into(), ..RunOptions::default() };
    let report = on_board(&firmware, &images, &options)?;
    Ok(Emulation { board: board.name, report })
}

fn on_board(firmware: &Firmware, images: &Dataset, options: &RunOptions) -> Result<Report> {
    let pictures: Vec<&[u8]> = (0..images.len()).map(|i| images.image(i)).collect();
    let progress = Progress::new(format!("emulating {}", firmware.board().name), images.len() as u64, "images");
    let seen = Cell::new(0);
    let report = firmware.run(&pictures, options, |done| {
        progress.add((done - seen.replace(done)) as u64);
        ControlFlow::Continue(())
    })?;
    Ok(report)
}
