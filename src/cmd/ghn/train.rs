//! `intact ghn train`. Enters: a design space, a data set, a recipe. Leaves: a folder with the run's checkpoint, its log and the
//! hypernetwork. Refused: recipes out of range, a folder whose run has another recipe or other images.

use super::{BatchClasses, FormArguments, NormFreeArguments};
use crate::Outcome;
use crate::cmd::DataArguments;
use crate::progress::duration;
use crate::terminal::print;
use crate::training::stop_flag;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use exporter::data::Split as DataSplit;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use trainer::graph::{Architecture, GraphSet, Request, Sampler, Space, Split};
use trainer::hypernet::train::{Event, Fall, Recipe, Row, Run};
use trainer::hypernet::{self, Rounding};

/// How the learning rate falls
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FallName {
    /// To a tenth after three quarters of the steps
    Step,
    /// Along half a cosine to 0
    Cosine,
    /// Not at all
    Constant,
}

/// What stands for a rounded value in training
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoundingName {
    /// The nearest integer (SimQuant)
    Nearest,
    /// Uniform noise (NoiseQuant)
    Noise,
    /// Noise on weights, the nearest integer for activations
    NoiseOnWeights,
}

/// Which images the networks of a step see
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StepImages {
    /// All the same, as in the paper
    Shared,
    /// Each its own: less noise in the gradient, in the same time
    Own,
}

/// Where figures come from that are not given
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RecipeName {
    /// What learns fast on a small machine
    Quick,
    /// The paper's: 100 epochs, 32 images, 4 networks, a tenth of the rate after 75 epochs
    Paper,
}

/// Train a hypernetwork
#[derive(Args)]
pub(crate) struct Arguments {
    /// mobile or edge
    #[arg(long, default_value = "edge")]
    space: Space,

    /// Bit widths to train for: float, w8a8, w4a8, ... with commas between them, or `all` for the paper's and float. With
    /// several, they become part of the graph
    #[arg(long, default_value = "all")]
    bits: String,

    #[command(flatten)]
    data: DataArguments,

    /// Folder of the run; an unfinished run in it goes on where it was
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,

    /// Begin with this hypernetwork, with a new optimizer
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Draw the classifier's layer of that hypernetwork anew: for logits that have stayed on one line
    #[arg(long, requires = "from")]
    redraw_classifier: bool,

    #[arg(long, value_enum, default_value_t = RecipeName::Quick)]
    recipe: RecipeName,

    #[arg(long)]
    steps: Option<u64>,

    /// Images that a network of a step sees
    #[arg(long)]
    batch: Option<usize>,

    /// Whether all networks of a step see the same; `own` in the recipe `quick`
    #[arg(long, value_enum)]
    step_images: Option<StepImages>,

    /// Which classes a batch holds; `balanced` in the recipe `quick`
    #[arg(long, value_enum)]
    batch_classes: Option<BatchClasses>,

    /// Networks of one step
    #[arg(long)]
    meta_batch: Option<usize>,

    /// Highest learning rate
    #[arg(long)]
    lr: Option<f32>,

    /// Steps in which the rate rises to that
    #[arg(long)]
    warmup: Option<u64>,

    #[arg(long, value_enum)]
    fall: Option<FallName>,

    /// Share that the moving average of the parameters keeps in each step; the average is what is written for use
    #[arg(long)]
    average: Option<f32>,

    /// Last layers of the decoders begin divided by this
    #[arg(long)]
    damping: Option<f32>,

    /// Longest gradient of one network's own parameters, 0 for any
    #[arg(long, value_parser = super::clip, allow_negative_numbers = true)]
    clip_network: Option<f32>,

    /// Networks to draw from
    #[arg(long)]
    nets: Option<usize>,

    /// Share of the steps before the first that quantizes
    #[arg(long)]
    float_until: Option<f64>,

    #[arg(long, value_enum, default_value_t = RoundingName::Nearest)]
    rounding: RoundingName,

    /// Up to so many bits of the weights, noise in any case (0 for never)
    #[arg(long, default_value_t = 2)]
    noise_up_to: u8,

    #[command(flatten)]
    form: FormArguments,

    /// Only networks without BatchNorm
    #[arg(long)]
    norm_free: bool,

    /// Share of the networks of a step that is drawn from those without BatchNorm, beside the few that the space has anyway
    #[arg(long, default_value_t = 0.0, conflicts_with = "norm_free")]
    norm_free_share: f64,

    #[command(flatten)]
    norm_free_form: NormFreeArguments,

    /// Everything random follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Share of each class of the training images that is kept from training
    #[arg(long, default_value_t = 0.1)]
    keep: f64,

    /// Minutes between checkpoints
    #[arg(long, default_value_t = 5.0)]
    checkpoint_every: f64,

    /// Steps of one line of the log; checkpoints lie between lines
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    row: u64,

    /// Networks that run at once
    #[arg(long, default_value_t = 2)]
    threads: usize,

    /// Where networks run
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl Arguments {
    fn recipe(&self) -> Result<Recipe> {
        let paper = Recipe::paper(self.space);
        let base = match self.recipe {
            RecipeName::Paper => paper,
            RecipeName::Quick => Recipe {
                steps: 20_000,
                nets: 50_000,
                warmup: 200,
                fall: Fall::Cosine,
                own_images: true,
                balanced: true,
                crop: false,
                average: 0.998,
                float_until: if self.bits == "all" { 0.5 } else { 0.0 },
                ..paper
            },
        };
        let settings = super::settings(&self.bits)?;
        Ok(Recipe {
            seed: self.seed,
            norm_free: self.norm_free,
            norm_free_share: self.norm_free_share,
            norm_free_form: self.norm_free_form.form(),
            nets: self.nets.unwrap_or(base.nets),
            steps: self.steps.unwrap_or(base.steps),
            batch: self.batch.unwrap_or(base.batch),
            own_images: self.step_images.map_or(base.own_images, |images| images == StepImages::Own),
            balanced: self.batch_classes.map_or(base.balanced, |classes| classes == BatchClasses::Balanced),
            meta_batch: self.meta_batch.unwrap_or(base.meta_batch),
            rate: self.lr.unwrap_or(base.rate),
            warmup: self.warmup.unwrap_or(base.warmup),
            fall: match self.fall {
                None => base.fall,
                Some(FallName::Step) => Fall::Step,
                Some(FallName::Cosine) => Fall::Cosine,
                Some(FallName::Constant) => Fall::Constant,
            },
            average: self.average.unwrap_or(base.average),
            clip_network: self.clip_network.unwrap_or(base.clip_network),
            damping: self.damping.unwrap_or(base.damping),
            float_until: self.float_until.unwrap_or(base.float_until),
            rounding: match self.rounding {
                RoundingName::Nearest => Rounding::Nearest,
                RoundingName::Noise => Rounding::Noise,
                RoundingName::NoiseOnWeights => Rounding::NoiseOnWeights,
            },
            noise_up_to: self.noise_up_to,
            normalization: self.form.batch_norm.into(),
            ranges: self.form.ranges()?,
            settings,
            ..base
        })
    }

    pub(crate) fn run(&self) -> Result<Outcome> {
        let recipe = self.recipe()?;
        // Before networks are drawn, which takes minutes.
        recipe.check().map_err(anyhow::Error::msg)?;
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let (data, _) = self.data.open(DataSplit::Train, None)?.hold_out(self.keep, self.data.data_seed)?;
        let split = if recipe.norm_free { Split::BnFreeTrain } else { Split::Train };
        let request = Request::new(recipe.space, split, recipe.seed);
        let nets = networks(&self.out.join("train.graphs"), request, recipe.nets)?;
        let norm_free = if recipe.norm_free_share > 0.0 {
            let request = Request::new(recipe.space, Split::BnFreeTrain, recipe.seed);
            // In the proportion of the paper: 50,000 beside 250,000.
            let count = recipe.nets.div_ceil(5);
            networks(&self.out.join("bn-free-train.graphs"), request, count)?
        } else {
            Vec::new()
        };
        let device = trainer::device::by_name(&self.device)?;
        let checkpoint = self.out.join("checkpoint.safetensors");
        let result = self.out.join("ghn.safetensors");
        let run = Run {
            recipe: &recipe,
            data: &data,
            nets: &nets,
            norm_free: &norm_free,
            checkpoint: &checkpoint,
            result: &result,
            every: Duration::from_secs_f64(60.0 * self.checkpoint_every),
            row: self.row,
            threads: self.threads,
            device: &device,
            stop: stop_flag()?,
        };
        let mut state = if checkpoint.exists() {
            eprintln!("going on with {}", checkpoint.display());
            run.resume()?
        } else {
            let from = |path: &PathBuf| -> Result<_> {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut parameters = hypernet::load(path)?.parameters;
                if self.redraw_classifier {
                    parameters.redraw_classifier(self.seed);
                    return Ok((parameters, format!("{name}, classifier redrawn")));
                }
                Ok((parameters, name))
            };
            run.start(self.from.as_ref().map(from).transpose()?)?
        };
        eprintln!(
            "hypernetwork of {} parameters, {} networks to draw from, {} training images",
            state.parameters.len(),
            nets.len(),
            data.len()
        );
        let log = self.out.join("log.jsonl");
        write_log(&log, state.rows())?;
        let mut lines =
            std::fs::OpenOptions::new().append(true).open(&log).with_context(|| log.display().to_string())?;
        let mut failed = None;
        run.go(&mut state, &mut |event| match event {
            Event::Row(row, left) => {
                eprintln!("{}", line(row, recipe.steps, left));
                let json = serde_json::to_string(row).unwrap_or_default();
                if let Err(error) = writeln!(lines, "{json}") {
                    failed = Some(error);
                }
            }
            Event::Saved(step) => eprintln!("checkpoint at step {step}"),
        })?;
        if let Some(error) = failed {
            return Err(error).with_context(|| log.display().to_string());
        }
        if state.step() < recipe.steps {
            print(&format!(
                "stopped; the same command goes on from {}; {} is what it has\n",
                checkpoint.display(),
                result.display()
            ))?;
            return Ok(Outcome::Done);
        }
        let result = result.display();
        print(&format!("wrote {result}\nnext: intact ghn eval --ghn {result}\n"))?;
        Ok(Outcome::Done)
    }
}

/// The networks of a file, which is made if there is none.
fn networks(path: &Path, request: Request, count: usize) -> Result<Vec<Architecture>> {
    let set = if path.exists() {
        GraphSet::read(path)?
    } else {
        eprintln!("drawing {count} networks of {} {}", request.space, request.split);
        let (set, _) = Sampler::new(request)?.generate(count, &|_| {})?;
        set.write(path)?;
        set
    };
    ensure!(
        *set.request() == request && set.len() == count,
        "{}: found {} networks of {:?}, expected {count} of {request:?}",
        path.display(),
        set.len(),
        set.request()
    );
    Ok(set.iter().collect())
}

/// The rows so far: those after the checkpoint that a run goes on with are dropped.
fn write_log(path: &Path, rows: &[Row]) -> Result<()> {
    let mut text = String::new();
    for row in rows {
        text += &serde_json::to_string(row)?;
        text.push('\n');
    }
    Ok(exporter::file::write_atomically(path, text.as_bytes())?)
}

fn line(row: &Row, steps: u64, left: Duration) -> String {
    let settings: Vec<String> =
        row.settings.iter().map(|(name, w)| format!("{name} {:.3} {:.1} %", w.loss, 100.0 * w.accuracy)).collect();
    let pace = row.seconds / row.step as f64;
    format!(
        "step {}/{steps}: {}; gradient {:.2}, rate {:.5}, {pace:.3} s a step, {} skipped, {} left",
        row.step,
        settings.join(", "),
        row.gradient,
        row.rate,
        row.skipped,
        duration(left)
    )
}
