//! A training run in its folder. Enters: a net's name or a checkpoint to start from, a data set, a recipe, a folder. Leaves: the run's checkpoint, its curve
//! and, at the end, the network alone. Refused: a folder that holds a run of another recipe, unless it is to start anew.

use crate::cmd::DataArguments;
use crate::progress::duration;
use anyhow::{Context, Result, ensure};
use exporter::checkpoint;
use exporter::data::Split;
use exporter::network::{Network, Preprocessing, Shape};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use trainer::difference;
use trainer::fit::{self, Config, Lines, Progress, Row, Step, Trained};
use trainer::nets::{self, Init, Task};

/// What training starts from.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// One of [`nets::NAMES`], with He's initialization.
    Net(&'a str),
    /// The network of a checkpoint.
    Checkpoint(&'a Path),
}

impl Start<'_> {
    /// Name of the network.
    pub(crate) fn name(self) -> Result<String> {
        match self {
            Self::Net(name) => Ok(name.into()),
            Self::Checkpoint(path) => Ok(checkpoint::load(path)?.0.name),
        }
    }
}

/// What is trained, on what, where.
pub(crate) struct Job<'a> {
    /// Where the parameters come from.
    pub(crate) start: Start<'a>,
    /// The images.
    pub(crate) data: &'a DataArguments,
    /// Training images to use; all if `None`.
    pub(crate) images: Option<usize>,
    /// Where everything is written.
    pub(crate) folder: &'a Path,
    /// Whether an unfinished run in the folder is thrown away.
    pub(crate) fresh: bool,
    /// One of [`trainer::device::NAMES`].
    pub(crate) device: &'a str,
}

/// What a run left behind.
pub(crate) struct Finished {
    /// The network, if the run is complete.
    pub(crate) network: PathBuf,
    /// Where an incomplete run goes on.
    pub(crate) checkpoint: PathBuf,
    /// Of the last epoch.
    pub(crate) test_accuracy: Option<f64>,
    /// Whether the run was stopped before its end.
    pub(crate) stopped: bool,
}

impl Job<'_> {
    /// Starts the run, or goes on with it.
    pub(crate) fn run(&self, recipe: &Config) -> Result<Finished> {
        let train = self.data.open(Split::Train, None)?;
        let train = self.images.map_or_else(|| train.clone(), |count| train.sample(count));
        let test = self.data.open(Split::Test, Some([train.height(), train.width()]))?;
        let device = trainer::device::by_name(self.device)?;
        std::fs::create_dir_all(self.folder).with_context(|| self.folder.display().to_string())?;
        let path = self.folder.join("checkpoint.safetensors");
        let mut config = Config { checkpoint: Some(path.clone()), ..recipe.clone() };

        let stop = stop_flag()?;
        let mut progress = reporter();
        let trained = if path.exists() && !self.fresh {
            same_recipe(&path, &self.start.name()?, recipe)?;
            eprintln!("going on with {}", path.display());
            fit::resume(&path, &device, &train, Some(&test), progress.as_mut(), stop)?
        } else {
            let network = match self.start {
                Start::Checkpoint(path) => checkpoint::load(path)?.0,
                Start::Net(name) => {
                    let task = Task {
                        input: Shape::new(3, train.height(), train.width()),
                        preprocessing: Preprocessing::of(&train),
                        labels: train.classes().to_vec(),
                    };
                    nets::by_name(name, &task, Init::HeNormal, recipe.seed)?
                }
            };
            eprintln!(
                "{}: {} parameters, {:.1} M MAC an image, {} training images",
                network.name,
                network.parameters(),
                network.macs() as f64 / 1e6,
                train.len()
            );
            config.checkpoint = Some(path.clone());
            fit::train(&config, network, &device, &train, Some(&test), progress.as_mut(), stop)?
        };
        self.finish(trained, path)
    }

    fn finish(&self, trained: Trained, checkpoint: PathBuf) -> Result<Finished> {
        let network = self.folder.join(format!("{}.safetensors", trained.network.name));
        if !trained.stopped {
            checkpoint::save(&network, &trained.network, &Default::default())?;
        }
        let test_accuracy = trained.curve.last().and_then(|row| row.test_accuracy);
        Ok(Finished { network, checkpoint, test_accuracy, stopped: trained.stopped })
    }
}

/// Refuses to go on with a run under another recipe: its result would belong to neither.
fn same_recipe(path: &Path, net: &str, recipe: &Config) -> Result<()> {
    let (Network { name, .. }, extra) = checkpoint::load(path)?;
    let stored: Config = serde_json::from_value(extra.state["config"].clone())
        .with_context(|| format!("{}: holds no training run", path.display()))?;
    #[derive(Serialize)]
    struct Run<'a> {
        network: &'a str,
        recipe: &'a Config,
    }

    let recipe = Config { checkpoint: None, ..recipe.clone() };
    ensure!(
        name == net && stored == recipe,
        "{}: holds another run ({}); give the same arguments to go on with it, --fresh to start anew, or another --out",
        path.display(),
        difference(&Run { network: &name, recipe: &stored }, &Run { network: net, recipe: &recipe })
    );
    Ok(())
}

/// Set by Ctrl-C: the run ends after its step, with a checkpoint.
pub(crate) fn stop_flag() -> Result<&'static AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag);
    }
    let flag = FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)));
    ctrlc::set_handler(|| {
        // The second Ctrl-C is for somebody in a hurry.
        if FLAG.get().is_some_and(|flag| flag.swap(true, Ordering::Relaxed)) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step (once more: at once)");
    })
    .context("Ctrl-C cannot be caught")?;
    Ok(flag)
}

/// A bar on a terminal, plain lines otherwise.
fn reporter() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Bar::new()) } else { Box::new(Lines::default()) }
}

struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}");
        Self(ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }
}

impl Progress for Bar {
    fn step(&mut self, s: &Step) {
        self.0.set_length(s.steps);
        self.0.set_position(s.step);
        let kind = if s.quantized { "quantized" } else { "float" };
        self.0.set_prefix(format!("epoch {}/{} {kind}", s.epoch, s.epochs));
        self.0.set_message(format!(
            "loss {:.3}, {:.1} % right, {:.0} images/s, {} left",
            s.loss,
            100.0 * s.accuracy,
            s.rate,
            duration(s.left)
        ));
    }

    fn epoch(&mut self, row: &Row) {
        let kind = if row.quantized { "quantized" } else { "float" };
        let test = row.test_accuracy.map_or(String::new(), |a| format!(", test {:.2} %", 100.0 * a));
        self.0.println(format!(
            "epoch {} ({kind}): loss {:.3}, train {:.2} %{test}",
            row.epoch,
            row.train_loss,
            100.0 * row.train_accuracy
        ));
    }

    fn note(&mut self, text: &str) {
        self.0.println(text);
    }
}
