//! `intact ghn study`. Enters: hypernetworks, random distributions, unseen networks, bit widths, seeds, images. Leaves: for each
//! of their combinations the accuracy after every epoch of quantization-aware training, line by line in a file, and the table.
//! Refused: a folder with the results of other conditions.

use super::NormalizationName;
use super::lines::Lines;
use crate::Outcome;
use crate::cmd::DataArguments;
use crate::progress::duration;
use crate::terminal::print;
use crate::training::stop_flag;
use anyhow::{Context, Result, bail};
use clap::Args;
use exporter::data::Split as DataSplit;
use exporter::file::write_atomically;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Instant;
use trainer::graph::{Architecture, Request, Sampler, Space, Split, Task};
use trainer::hypernet::train::Workers;
use trainer::hypernet::{self, Normalization, Parameters, Setting};
use trainer::nets::Init;
use trainer::study::{Case, Found, Source, Study, table};

/// Compare starts: how far quantization-aware training gets from each in a few epochs
#[derive(Args)]
pub(crate) struct Arguments {
    /// Hypernetwork asked for quantized networks: the start `ghn-qat`
    #[arg(long, value_name = "FILE")]
    ghn_qat: Option<PathBuf>,

    /// Hypernetwork asked for float networks: the start `ghn-q`
    #[arg(long, value_name = "FILE")]
    ghn_q: Option<PathBuf>,

    /// Random starts with commas between them: he-normal, he-uniform, glorot-normal, glorot-uniform
    #[arg(long, default_value = "he-normal,glorot-uniform")]
    random: String,

    /// mobile or edge
    #[arg(long, default_value = "edge")]
    space: Space,

    /// Networks of the split `id`, from the first
    #[arg(long, default_value_t = 10)]
    nets: u64,

    /// Bit widths with commas between them
    #[arg(long, default_value = "w8a8,w4a4,w2a2")]
    bits: String,

    /// Seeds, from 1
    #[arg(long, default_value_t = 3)]
    seeds: u64,

    #[arg(long, default_value_t = 10)]
    epochs: u64,

    /// Highest learning rate
    #[arg(long, default_value_t = 0.02)]
    lr: f32,

    /// Images of one step
    #[arg(long, default_value_t = 64)]
    batch: usize,

    /// Training images, of all classes, if there are as many
    #[arg(long)]
    images: Option<usize>,

    /// Test images, of all classes, if there are as many
    #[arg(long, default_value_t = 10_000)]
    test_images: usize,

    /// Where BatchNorm stands when weights are rounded, as the hypernetworks were trained; two bits always have it on the
    /// accumulator
    #[arg(long, value_enum, default_value_t = NormalizationName::Folded)]
    batch_norm: NormalizationName,

    #[command(flatten)]
    data: DataArguments,

    /// Folder for results and table; what has a result in it is not run again
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,

    /// Networks that are trained at once
    #[arg(long, default_value_t = 2)]
    threads: usize,

    /// Where networks run
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// What all results of a file have in common.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Conditions {
    /// Hashes of the hypernetworks' files.
    ghn_qat: Option<String>,
    ghn_q: Option<String>,
    space: Space,
    epochs: u64,
    rate: f32,
    batch: usize,
    #[serde(default)]
    normalization: Normalization,
    /// Hashes of the images.
    train: String,
    test: String,
}

impl Arguments {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let [qat, q] = [&self.ghn_qat, &self.ghn_q].map(|path| path.as_deref().map(load).transpose());
        let (qat, q) = (qat?, q?);
        let mut starts: Vec<(String, Source<'_>)> = Vec::new();
        starts.extend(qat.as_ref().map(|(p, _)| ("ghn-qat".into(), Source::Quantized(p))));
        starts.extend(q.as_ref().map(|(p, _)| ("ghn-q".into(), Source::Float(p))));
        for name in self.random.split(',').filter(|name| !name.is_empty()) {
            starts.push((name.into(), Source::Random(init(name)?)));
        }
        let settings = super::settings(&self.bits)?;
        if let Some(setting) = settings.iter().find(|setting| setting.is_float()) {
            bail!("--bits: found {setting}, expected widths of quantized networks");
        }
        let train = self.data.open(DataSplit::Train, None)?;
        let train = train.sample(self.images.unwrap_or(usize::MAX));
        let test = self.data.open(DataSplit::Test, Some([train.height(), train.width()]))?.sample(self.test_images);
        let conditions = Conditions {
            ghn_qat: qat.as_ref().map(|(_, hash)| hash.clone()),
            ghn_q: q.as_ref().map(|(_, hash)| hash.clone()),
            space: self.space,
            epochs: self.epochs,
            rate: self.lr,
            batch: self.batch,
            normalization: self.batch_norm.into(),
            train: train.content_hash(),
            test: test.content_hash(),
        };
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let (file, found) = Lines::open::<_, Found>(&self.out.join("results.jsonl"), &conditions)?;

        let task = Task { channels: 3, size: train.height(), classes: train.classes().len() };
        let sampler = Sampler::new(Request { task, ..Request::new(self.space, Split::Id, 1) })?;
        let nets = (0..self.nets).map(|i| Ok(sampler.draw(i)?.0)).collect::<Result<Vec<Architecture>>>()?;
        let missing = self.missing(&starts, &settings, &found);
        eprintln!("{} results are there, {} to be made", found.len(), missing.len());
        let device = trainer::device::by_name(&self.device)?;
        let study = Study {
            train: &train,
            test: &test,
            epochs: self.epochs,
            rate: self.lr,
            batch: self.batch,
            normalization: self.batch_norm.into(),
            device: &device,
        };
        let (began, stop) = (Instant::now(), stop_flag()?);
        let done = Mutex::new((file, found, 0u32));
        let ended = Workers::new(self.threads).map(missing.len(), |i| -> Result<()> {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let (case, source) = &missing[i];
            let result = study.run(case, &nets[case.net as usize], *source)?;
            let mut guard = done.lock().expect("no thread panics here");
            let (file, found, count) = &mut *guard;
            file.add(&result)?;
            *count += 1;
            let left = began.elapsed().div_f64(f64::from(*count)) * (missing.len() as u32 - *count);
            eprintln!("{count}/{}: {}; {} left", missing.len(), shown(&result), duration(left));
            found.push(result);
            Ok(())
        });
        ended.into_iter().collect::<Result<()>>()?;
        let (_, mut found, _) = done.into_inner().expect("no thread panicked");
        found.sort_by_key(|f| place(&f.case, &starts));
        let mut epochs: Vec<usize> = [0, 1, 2, 5].into_iter().filter(|e| (*e as u64) < self.epochs).collect();
        epochs.push(self.epochs as usize);
        let text = table(&found, &epochs);
        write_atomically(&self.out.join("table.md"), text.as_bytes())?;
        let rest = if stop.load(Ordering::Relaxed) { "; stopped: the same command goes on" } else { "" };
        print(&format!("{text}{} test images, {} to train on{rest}\n", test.len(), train.len()))?;
        Ok(Outcome::Done)
    }

    /// What has no result yet: all of one network before the next, all of one seed before the next.
    fn missing<'a>(
        &self,
        starts: &[(String, Source<'a>)],
        settings: &[Setting],
        found: &[Found],
    ) -> Vec<(Case, Source<'a>)> {
        let mut missing = Vec::new();
        for seed in 1..=self.seeds {
            for net in 0..self.nets {
                for &setting in settings {
                    for (start, source) in starts {
                        let case = Case { net, setting, start: start.clone(), seed };
                        if !found.iter().any(|f| f.case == case) {
                            missing.push((case, *source));
                        }
                    }
                }
            }
        }
        missing
    }
}

/// By widths from the widest, then by start.
fn place(case: &Case, starts: &[(String, Source<'_>)]) -> (std::cmp::Reverse<Setting>, usize, u64, u64) {
    let start = starts.iter().position(|(name, _)| *name == case.start).unwrap_or(usize::MAX);
    (std::cmp::Reverse(case.setting), start, case.net, case.seed)
}

fn load(path: &Path) -> Result<(Parameters, String)> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok((hypernet::from_bytes(&bytes, path)?.parameters, blake3::hash(&bytes).to_hex().to_string()))
}

fn init(name: &str) -> Result<Init> {
    Ok(match name {
        "he-normal" => Init::HeNormal,
        "he-uniform" => Init::HeUniform,
        "glorot-normal" => Init::GlorotNormal,
        "glorot-uniform" => Init::GlorotUniform { c: 6.0 },
        _ => bail!("--random: found `{name}`, expected he-normal, he-uniform, glorot-normal or glorot-uniform"),
    })
}

fn shown(found: &Found) -> String {
    let Case { net, setting, start, seed } = &found.case;
    let curve: Vec<String> = found.accuracy.iter().map(|a| format!("{:.1}", 100.0 * a)).collect();
    format!("network {net} {setting} {start} seed {seed}: {} % ({:.0} s)", curve.join(" "), found.seconds)
}
