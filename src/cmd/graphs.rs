//! `intact graphs`: networks to train a hypernetwork on, and to judge it by. Enters: a design space, a split, a seed; or a
//! file made before. Leaves: a file with the arguments of every network; figures and drawings. Refused: caps that hardly
//! any network keeps, files that are foreign or damaged, networks that a file does not have.

use crate::Outcome;
use crate::progress::{Progress, duration};
use crate::terminal::{print, thousands};
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, value_parser};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use trainer::graph::{
    Blueprint, Caps, GraphSet, Rejection, Request, Sampler, Space, Split, Statistics, Summary, Switches, Tally, svg,
};

/// Draw networks of a design space, or show those of a file
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Generate(Generate),
    Show(Show),
}

/// Draw networks; the same command writes the same bytes, whatever the number of threads
#[derive(Args)]
struct Generate {
    /// mobile (the paper's ConvNets-250K) or edge (held to microcontrollers)
    #[arg(long)]
    space: Space,
    /// train, validation, id, id-widened, deep, wide, bn-free or bn-free-train
    #[arg(long, default_value_t = Split::Train)]
    split: Split,
    /// Number of networks [default: 250000 for train, 50000 for bn-free-train, 500 for id and id-widened, else 100]
    #[arg(long, value_parser = value_parser!(u32).range(1..=10_000_000))]
    count: Option<u32>,
    /// Everything random comes from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The file to write
    #[arg(long)]
    out: PathBuf,
    /// Leave out convolutions of 1x1 in cells
    #[arg(long)]
    no_conv_1x1: bool,
    /// Have separable and dilated convolutions of 7x7
    #[arg(long)]
    depthwise_7x7: bool,
    /// Most parameters of a network, in place of the space's own cap
    #[arg(long)]
    max_parameters: Option<u64>,
    /// Most multiply-accumulates of one image
    #[arg(long)]
    max_macs: Option<u64>,
    /// Most bytes of the arena, with 8-bit activations
    #[arg(long)]
    max_arena: Option<u64>,
}

/// Print what a file holds, or one of its networks
#[derive(Args)]
struct Show {
    /// Written by `graphs generate`
    file: PathBuf,
    /// Show this network, from 0 on, instead of figures of all
    #[arg(long)]
    index: Option<usize>,
    /// Draw that network's graph into this file
    #[arg(long, requires = "index")]
    svg: Option<PathBuf>,
    /// Figures of so many networks, taken from the file at equal distances
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..), conflicts_with = "index")]
    sample: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    match &arguments.verb {
        Verb::Generate(a) => generate(a),
        Verb::Show(a) => show(a),
    }
}

fn generate(a: &Generate) -> Result<Outcome> {
    let mut request = Request::new(a.space, a.split, a.seed);
    request.switches = Switches { convolution_1x1: !a.no_conv_1x1, depthwise_7x7: a.depthwise_7x7 };
    request.caps = Caps {
        parameters: a.max_parameters.unwrap_or(request.caps.parameters),
        macs: a.max_macs.or(request.caps.macs),
        arena_bytes: a.max_arena.or(request.caps.arena_bytes),
    };
    let count = a.count.map_or(a.split.default_count(), |count| count as usize);
    let start = Instant::now();
    let sampler = Sampler::new(request)?;
    let progress = Progress::new(format!("{} {}", a.space, a.split), count as u64, "networks");
    let (set, tally) = sampler.generate(count, &|done| progress.add(done as u64))?;
    drop(progress);
    set.write(&a.out)?;
    let bytes = std::fs::metadata(&a.out).with_context(|| a.out.display().to_string())?.len();
    print(&format!(
        "{}: {} networks in {} bytes ({:.1} each), {}\n{}\n",
        a.out.display(),
        thousands(count as u64),
        thousands(bytes),
        bytes as f64 / count as f64,
        duration(start.elapsed()),
        draws(&tally)
    ))?;
    Ok(Outcome::Done)
}

/// How many draws it took.
fn draws(tally: &Tally) -> String {
    let rejected = Rejection::ALL.into_iter().zip(tally.rejected).filter(|(_, count)| *count > 0);
    let rejected: Vec<_> = rejected.map(|(reason, count)| format!("{} {}", thousands(count), reason.name())).collect();
    let rejected = if rejected.is_empty() { "none".into() } else { rejected.join(", ") };
    format!("{} draws; rejected: {rejected}", thousands(tally.draws))
}

fn show(a: &Show) -> Result<Outcome> {
    let set = GraphSet::read(&a.file)?;
    match a.index {
        Some(index) => one(&set, &a.file, index, a.svg.as_deref(), a.json)?,
        None => all(&set, &a.file, a.sample as usize, a.json)?,
    }
    Ok(Outcome::Done)
}

fn one(set: &GraphSet, file: &Path, index: usize, drawing: Option<&Path>, json: bool) -> Result<()> {
    let net = set.get(index);
    let net = net.with_context(|| format!("{}: --index {index}: expected below {}", file.display(), set.len()))?;
    let place = || format!("{}: network {index}", file.display());
    let blueprint = Blueprint::build(&net, set.request().task).with_context(place)?;
    let statistics = Statistics::of(&blueprint).with_context(place)?;
    let code = net.to_code()?;
    if let Some(path) = drawing {
        // In three lines: the two cells are the longest parts.
        let arguments = net.to_string().replace(", normal", "\nnormal").replace(", reduction", "\nreduction");
        let title = format!("Network {index} of {}: {code}\n{arguments}", origin(set));
        exporter::file::write_atomically(path, svg(&blueprint, &title).as_bytes())?;
    }
    if json {
        let value = json!({ "index": index, "code": code, "architecture": net, "statistics": statistics });
        return print(&format!("{value:#}\n"));
    }
    print(&format!("{net}\ncode        {code}\n{statistics}\n"))
}

fn all(set: &GraphSet, file: &Path, sample: usize, json: bool) -> Result<()> {
    let summary = Summary::of(set, sample).with_context(|| file.display().to_string())?;
    ensure!(summary.is_some(), "{}: found no network, expected one at least", file.display());
    let Request { space, split, switches, caps, seed, task: _ } = *set.request();
    if json {
        let generator = set.generator();
        let origin = json!({
            "space": space, "split": split, "seed": seed, "switches": switches, "caps": caps, "generator": generator,
        });
        return print(&format!("{:#}\n", json!({ "origin": origin, "summary": summary })));
    }
    let cap = |cap: Option<u64>, unit: &str| cap.map_or(String::new(), |cap| format!(", {} {unit}", thousands(cap)));
    let text = summary.map_or(String::new(), |summary| summary.to_string());
    print(&format!(
        "{}, generator {}; 1x1 {}, depthwise 7x7 {}\nat most {} parameters{}{}\n{text}\n",
        origin(set),
        set.generator(),
        if switches.convolution_1x1 { "yes" } else { "no" },
        if switches.depthwise_7x7 { "yes" } else { "no" },
        thousands(caps.parameters),
        cap(caps.macs, "MACs"),
        cap(caps.arena_bytes, "bytes of arena"),
    ))
}

/// Where the networks come from.
fn origin(set: &GraphSet) -> String {
    let Request { space, split, seed, .. } = set.request();
    format!("{space} {split}, seed {seed}")
}
