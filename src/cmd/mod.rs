//! The verbs, one file each. Enters: parsed arguments. Leaves: an [`Outcome`], or an error with its whole chain.

mod bench;
mod boards;
mod data;
mod demo;
mod export;
mod gap;
#[cfg(feature = "train")]
mod ghn;
#[cfg(feature = "train")]
mod graphs;
#[cfg(feature = "train")]
mod init;
mod inspect;
mod quantize;
mod run;
mod sensitivity;
mod sim;
#[cfg(feature = "train")]
mod train;
mod verify;

use crate::Outcome;
use anyhow::Result;
use clap::{Parser, Subcommand};
#[cfg(feature = "train")]
pub(crate) use data::DataArguments;
use std::time::Duration;

/// Carries a quantized CNN, integer for integer, from training to the device.
///
/// Try `intact demo` first: it runs the whole path on images that it draws itself.
/// Export for mobile: `train`, `export`, `inspect`. Run on a Pi or a microcontroller: `run`, `bench`, `boards`, `sim`.
/// Check simulation against device: `gap`.
///
/// Exit codes: 0 done, 1 a check failed, 2 could not do it.
#[derive(Parser)]
#[command(name = "intact", version, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Demo(demo::Arguments),
    #[cfg(feature = "train")]
    Train(train::Arguments),
    #[cfg(feature = "train")]
    Ghn(ghn::Arguments),
    #[cfg(feature = "train")]
    Init(init::Arguments),
    Export(export::Arguments),
    Quantize(quantize::Arguments),
    Sensitivity(sensitivity::Arguments),
    Verify(verify::Arguments),
    Run(run::Arguments),
    Gap(gap::Arguments),
    Sim(sim::Arguments),
    Inspect(inspect::Arguments),
    Bench(bench::Arguments),
    Boards(boards::Arguments),
    #[cfg(feature = "train")]
    Graphs(graphs::Arguments),
}

/// Reads how long to measure for: seconds, neither negative nor without end.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("expected a number of seconds from 0 up: {error}"))
}

/// Runs one verb.
pub(crate) fn run(arguments: Arguments) -> Result<Outcome> {
    match arguments.verb {
        Verb::Demo(a) => demo::run(&a),
        #[cfg(feature = "train")]
        Verb::Train(a) => train::run(&a),
        #[cfg(feature = "train")]
        Verb::Ghn(a) => ghn::run(&a),
        #[cfg(feature = "train")]
        Verb::Init(a) => init::run(&a),
        Verb::Export(a) => export::run(&a),
        Verb::Quantize(a) => quantize::run(&a),
        Verb::Sensitivity(a) => sensitivity::run(&a),
        Verb::Verify(a) => verify::run(&a),
        Verb::Run(a) => run::run(&a),
        Verb::Gap(a) => gap::run(&a),
        Verb::Sim(a) => sim::run(&a),
        Verb::Inspect(a) => inspect::run(&a),
        Verb::Bench(a) => bench::run(&a),
        Verb::Boards(a) => boards::run(&a),
        #[cfg(feature = "train")]
        Verb::Graphs(a) => graphs::run(&a),
    }
}
