//! `intact bench`: how long the integer runtime takes on this machine. Enters: a flash image. Leaves: latency of one image
//! (median, 5th and 95th percentile), MAC a second, and each op's share. Refused: broken images, kernels that the machine
//! cannot run. Times are this machine's at this moment: compare two programs only in one interleaved run.

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
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    seconds: f64,

    /// Kernels: `reference`, `portable` or an instruction set of this machine; the fastest if not given
    #[arg(long, value_name = "NAME")]
    kernels: Option<Executor>,

    /// Threads; more than one help only while they make runs faster, which is measured along the way
    #[arg(long, default_value = "1", value_name = "COUNT")]
    threads: NonZero<usize>,
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let mut bytes = Bytes::read(&a.model).with_context(|| a.model.display().to_string())?;
    make_room(&mut bytes).with_context(|| a.model.display().to_string())?;
    let image = Image::check(&bytes).with_context(|| a.model.display().to_string())?;
    let mut network = Prepared::with(image, a.kernels.unwrap_or_else(Executor::best)).with_threads(a.threads);
    // Latency does not depend on the values: the kernels have no data-dependent branches worth a difference.
    let pixels: Vec<u8> = (0..image.input().len()).map(|i| (i * 97 % 251) as u8).collect();

    network.run_pixels(&pixels)?;
    let mut times = Vec::new();
    let start = Instant::now();
    while times.is_empty() || start.elapsed().as_secs_f64() < a.seconds {
        let begin = Instant::now();
        network.run_pixels(&pixels)?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];

    let mut timing = Timing::default();
    for _ in 0..times.len().clamp(1, 100) {
        network.run_pixels_observed(&pixels, &mut timing)?;
    }
    let total: Duration = timing.times().iter().sum();

    let macs: u64 = image.ops().map(|op| op.macs()).sum();
    let rate = macs as f64 / at(0.5).as_secs_f64() / 1e9;
    let mut rows = vec![["op", "kind", "MAC", "microseconds", "share"].map(String::from).to_vec()];
    for (op, spent) in image.ops().zip(timing.times()) {
        rows.push(vec![
            op.name().to_owned(),
            op.repr.kind.name().to_owned(),
            thousands(op.macs()),
            format!("{:.1}", spent.as_secs_f64() * 1e6 / timing.runs() as f64),
            format!("{:.1} %", 100.0 * spent.as_secs_f64() / total.as_secs_f64().max(1e-12)),
        ]);
    }
    print(&format!(
        "{}: {} runs, {}, {} kernels, {}\nmedian {:.1} us, 5th percentile {:.1} us, 95th {:.1} us; {} MAC, {rate:.2} GMAC/s\n\n{}",
        image.name(),
        times.len(),
        match network.threads() {
            1 => "one thread".to_owned(),
            threads => format!("up to {threads} threads"),
        },
        network.executor(),
        network.origin(),
        at(0.5).as_secs_f64() * 1e6,
        at(0.05).as_secs_f64() * 1e6,
        at(0.95).as_secs_f64() * 1e6,
        thousands(macs),
        columns(&rows)
    ))?;
    Ok(Outcome::Done)
}
