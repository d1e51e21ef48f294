//! `intact ghn eval`. Enters: a hypernetwork, a design space, test images. Leaves: the scores of every network, line by line,
//! and the tables of the paper as text, Markdown and JSON. Refused: a folder with the scores of another hypernetwork or under
//! other conditions.

use super::FormArguments;
use super::lines::Lines;
use crate::Outcome;
use crate::cmd::DataArguments;
use crate::terminal::print;
use anyhow::{Context, Result};
use clap::Args;
use exporter::data::Split as DataSplit;
use exporter::file::write_atomically;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Mutex;
use trainer::eval::{Images, Score, Table, Test, network};
use trainer::graph::{Blueprint, Request, Sampler, Space, Split, Task};
use trainer::hypernet::train::Workers;
use trainer::hypernet::{self, Normalization, Parameters, Ranges, Setting};

/// Test a hypernetwork on networks it has never seen, which are not trained
#[derive(Args)]
pub(crate) struct Arguments {
    /// The hypernetwork
    #[arg(long, value_name = "FILE")]
    ghn: PathBuf,

    /// mobile or edge
    #[arg(long, default_value = "edge")]
    space: Space,

    /// Of the design space, with commas between them
    #[arg(long, default_value = "id,deep,wide,bn-free")]
    splits: String,

    /// Bit widths with commas between them, or `all`
    #[arg(long, default_value = "all")]
    bits: String,

    /// Widths that the hypernetwork is asked for instead of those of each test: `float` tests GHN-Q, whose weights know
    /// nothing of what they will be rounded to
    #[arg(long, value_name = "BITS")]
    ask: Option<Setting>,

    /// Networks of each split, if it has as many
    #[arg(long, default_value_t = 100)]
    nets: usize,

    /// Test images, if there are as many
    #[arg(long, default_value_t = 10_000)]
    images: usize,

    /// Images of one batch, by which BatchNorm normalizes
    #[arg(long, default_value_t = 64)]
    batch: usize,

    #[command(flatten)]
    form: FormArguments,

    #[command(flatten)]
    data: DataArguments,

    /// Folder for scores and tables; networks that have scores in it are not run again
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,

    /// Seed of the networks; that of the hypernetwork's own training keeps them from it
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Networks that run at once
    #[arg(long, default_value_t = 2)]
    threads: usize,

    /// Where networks run
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// What all scores of a file have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Conditions {
    /// Hash of the hypernetwork's file.
    ghn: String,
    space: Space,
    bits: Vec<Setting>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Setting>,
    images: usize,
    batch: usize,
    ranges: Ranges,
    normalization: Normalization,
    seed: u64,
    /// Hash of the test images.
    data: String,
}

/// One line of the file behind the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    split: Split,
    index: u64,
    scores: Vec<Score>,
}

impl Arguments {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let splits = self.splits.split(',').map(|name| Ok(name.trim().parse()?)).collect::<Result<Vec<Split>>>()?;
        let settings = super::settings(&self.bits)?;
        let file = std::fs::read(&self.ghn).with_context(|| self.ghn.display().to_string())?;
        let ghn = hypernet::load(&self.ghn)?;
        let data = self.data.open(DataSplit::Test, None)?;
        let conditions = Conditions {
            ghn: blake3::hash(&file).to_hex().to_string(),
            space: self.space,
            bits: settings.clone(),
            asked: self.ask,
            images: self.images.min(data.len()),
            batch: self.batch,
            ranges: self.form.ranges()?,
            normalization: self.form.batch_norm.into(),
            seed: self.seed,
            data: data.content_hash(),
        };
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let path = self.out.join("scores.jsonl");
        let (file, mut lines) = Lines::open::<_, Line>(&path, &conditions)?;
        let done = Mutex::new((0, file));
        let images = Images::new(&data, self.images, 0);
        let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
        for split in splits.iter().copied() {
            let sampler = Sampler::new(Request { task, ..Request::new(self.space, split, self.seed) })?;
            let count = self.nets.min(split.default_count()) as u64;
            let missing: Vec<u64> =
                (0..count).filter(|i| !lines.iter().any(|line| (line.split, line.index) == (split, *i))).collect();
            done.lock().expect("no thread panics here").0 = 0;
            let found = Workers::new(self.threads).map(missing.len(), |i| -> Result<Line> {
                let index = missing[i];
                let (net, _) = sampler.draw(index)?;
                let net = Blueprint::build(&net, task)?;
                let line = Line { split, index, scores: self.scores(&ghn.parameters, &net, &settings, &images)? };
                let mut guard = done.lock().expect("no thread panics here");
                guard.0 += 1;
                guard.1.add(&line)?;
                eprintln!("{split} {}/{}: network {index}: {}", guard.0, missing.len(), shown(&line.scores));
                Ok(line)
            });
            lines.extend(found.into_iter().collect::<Result<Vec<_>>>()?);
        }
        lines.sort_by_key(|line| (line.split as u8, line.index));
        let mut table = Table::default();
        for split in splits {
            let nets = lines.iter().filter(|line| line.split == split && line.index < self.nets as u64);
            table.push(split.name(), &nets.map(|line| line.scores.clone()).collect::<Vec<_>>());
        }
        let text = table.markdown();
        write_atomically(&self.out.join("table.md"), text.as_bytes())?;
        write_atomically(&self.out.join("table.json"), serde_json::to_string_pretty(&table)?.as_bytes())?;
        print(&format!("{text}mean ± standard error; maximum. {} test images\n", images.len()))?;
        Ok(Outcome::Done)
    }

    fn scores(&self, p: &Parameters, net: &Blueprint, settings: &[Setting], images: &Images) -> Result<Vec<Score>> {
        let device = trainer::device::by_name(&self.device)?;
        let test = Test {
            settings,
            asked: self.ask,
            ranges: self.form.ranges()?,
            normalization: self.form.batch_norm.into(),
            s_max: 10,
            images,
            batch: self.batch,
            device: &device,
        };
        Ok(network(p, net, &test)?)
    }
}

fn shown(scores: &[Score]) -> String {
    scores.iter().map(|s| format!("{} {:.1} %", s.setting, 100.0 * s.top1)).collect::<Vec<_>>().join(", ")
}
