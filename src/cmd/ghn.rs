//! `intact ghn`: the hypernetwork. Enters: what its verbs take. Leaves: what they make. Refused: bit widths that are none.

mod eval;
mod train;

use crate::Outcome;
use anyhow::Result;
use clap::{Args, Subcommand};
use trainer::hypernet::Setting;

/// Train a hypernetwork that predicts the weights of networks it has never seen, and try it out
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Train(Box<train::Arguments>),
    Eval(Box<eval::Arguments>),
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    match &a.verb {
        Verb::Train(a) => a.run(),
        Verb::Eval(a) => a.run(),
    }
}

/// `all` for floats and the paper's four, or names with commas between them.
fn settings(list: &str) -> Result<Vec<Setting>> {
    match list {
        "all" => Ok(Setting::PAPER.to_vec()),
        list => list.split(',').map(|name| Ok(name.trim().parse()?)).collect(),
    }
}
