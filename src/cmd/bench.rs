//! `intact bench`: how long the integer runtime takes on this machine. Enters: a flash image. Leaves: latency of one image
//! (median, 5th and 95th percentile), MAC a second, and each op's share; or what several threads gain over one. Refused: broken
//! images, kernels that the machine cannot run. Times are this machine's at this moment: compare two programs only in one
//! interleaved run.

use crate::Outcome;
use crate::terminal::{columns, print, thousands};
use anyhow::{Context, Result};
use clap::Args;
use runtime::host::{Bytes, Executor, Prepared, make_room};
use runtime::image::Image;
use runtime::observe::Timing;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Measure latency of a flash image on this machine, op by op
#[derive(Args)]
pub(crate) struct Arguments {
    /// Flash image (.intact)
    model: PathBuf,

    /// Seconds to measure for
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = super::seconds, allow_negative_numbers = true)]
    seconds: Duration,

    /// Kernels: `reference`, `portable` or an instruction set of this machine; the fastest if not given
    #[arg(long, value_name = "NAME")]
    kernels: Option<Executor>,

    /// Threads; more than one help only while they make runs faster, which is measured along the way
    #[arg(long, default_value = "1", value_name = "COUNT")]
    threads: NonZero<usize>,

    /// Let one thread and all --threads take turns of 40 runs, and show what they gain
    #[arg(long)]
    gain: bool,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let mut bytes = Bytes::read(&a.model).with_context(|| a.model.display().to_string())?;
    make_room(&mut bytes).with_context(|| a.model.display().to_string())?;
    let image = Image::check(&bytes).with_context(|| a.model.display().to_string())?;
    // Latency does not depend on the values: the kernels have no data-dependent branches worth a difference.
    let pixels: Vec<u8> = (0..image.input().len()).map(|i| (i * 97 % 251) as u8).collect();
    let text = if a.gain { gain(a, image, &pixels)? } else { latency(a, image, &pixels)? };
    print(&text)?;
    Ok(Outcome::Done)
}

fn prepared<'i>(a: &Arguments, image: Image<'i>, threads: NonZero<usize>) -> Prepared<'i> {
    Prepared::with(image, a.kernels.unwrap_or_else(Executor::best)).with_threads(threads)
}

/// How many threads run a network, in words.
fn threads(network: &Prepared<'_>) -> String {
    match network.threads() {
        1 => "one thread".to_owned(),
        threads => format!("up to {threads} threads"),
    }
}

/// The value below which a share of sorted times or ratios lies.
fn at<T: Copy>(sorted: &[T], share: f64) -> T {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// What threads gain: the two take turns that are short beside what disturbs a machine for seconds, so that both are disturbed alike.
fn gain(a: &Arguments, image: Image<'_>, pixels: &[u8]) -> Result<String> {
    const RUNS: usize = 40;
    let mut networks = [NonZero::<usize>::MIN, a.threads].map(|threads| prepared(a, image, threads));
    let mut turn = |which: usize| -> Result<Duration> {
        let mut times = [Duration::ZERO; RUNS];
        for time in &mut times {
            let begin = Instant::now();
            networks[which].run_pixels(pixels)?;
            *time = begin.elapsed();
        }
        times.sort_unstable();
        Ok(at(&times, 0.5))
    };
    let mut turns = vec![];
    // The first pair of turns warms up.
    let start = Instant::now();
    while turns.len() < 2 || start.elapsed() < a.seconds {
        turns.push([turn(0)?, turn(1)?]);
    }
    turns.remove(0);
    let mut gains: Vec<f64> = turns.iter().map(|[one, all]| one.as_secs_f64() / all.as_secs_f64()).collect();
    gains.sort_unstable_by(f64::total_cmp);
    let [one, all] = [0, 1].map(|which| {
        let mut times: Vec<Duration> = turns.iter().map(|turn| turn[which]).collect();
        times.sort_unstable();
        times
    });
    let shown = |times: &[Duration]| {
        let [median, low] = [0.5, 0.05].map(|share| microseconds(at(times, share)));
        format!("median {median:.1} us, 5th percentile {low:.1} us")
    };
    Ok(format!(
        "{}: {} turns of {RUNS} runs each, {} kernels, medians of the turns\none thread: {}\n{}: {}\ngain: median {:.2}, \
         5th percentile {:.2}, 95th {:.2}; below 1 in {:.1} % of the turns, below 0.95 in {:.1} %\n",
        image.name(),
        gains.len(),
        networks[1].executor(),
        shown(&one),
        threads(&networks[1]),
        shown(&all),
        at(&gains, 0.5),
        at(&gains, 0.05),
        at(&gains, 0.95),
        below(&gains, 1.0),
        below(&gains, 0.95),
    ))
}

/// Share of the values below a limit, in percent.
fn below(values: &[f64], limit: f64) -> f64 {
    100.0 * values.iter().filter(|value| **value < limit).count() as f64 / values.len() as f64
}

fn latency(a: &Arguments, image: Image<'_>, pixels: &[u8]) -> Result<String> {
    let mut network = prepared(a, image, a.threads);
    network.run_pixels(pixels)?;
    let mut times = Vec::new();
    let start = Instant::now();
    while times.is_empty() || start.elapsed() < a.seconds {
        let begin = Instant::now();
        network.run_pixels(pixels)?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();

    let mut timing = Timing::default();
    for _ in 0..times.len().clamp(1, 100) {
        network.run_pixels_observed(pixels, &mut timing)?;
    }
    let total: Duration = timing.times().iter().sum();

    let macs: u64 = image.ops().map(|op| op.macs()).sum();
    let rate = macs as f64 / at(&times, 0.5).as_secs_f64() / 1e9;
    let mut rows = vec![["op", "kind", "MAC", "microseconds", "share"].map(String::from).to_vec()];
    for (op, spent) in image.ops().zip(timing.times()) {
        rows.push(vec![
            op.name().to_owned(),
            op.repr.kind.name().to_owned(),
            thousands(op.macs()),
            format!("{:.1}", microseconds(*spent) / timing.runs() as f64),
            format!("{:.1} %", 100.0 * spent.as_secs_f64() / total.as_secs_f64().max(1e-12)),
        ]);
    }
    Ok(format!(
        "{}: {} runs, {}, {} kernels, {}\nmedian {:.1} us, 5th percentile {:.1} us, 95th {:.1} us; {} MAC, {rate:.2} GMAC/s\n\n{}",
        image.name(),
        times.len(),
        threads(&network),
        network.executor(),
        network.origin(),
        microseconds(at(&times, 0.5)),
        microseconds(at(&times, 0.05)),
        microseconds(at(&times, 0.95)),
        thousands(macs),
        columns(&rows)
    ))
}
