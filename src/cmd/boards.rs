//! `intact boards`: the boards that the program knows. Enters: nothing. Leaves: their names, cores, flash and RAM.

use crate::Outcome;
use crate::terminal::{columns, print, thousands};
use anyhow::Result;
use clap::Args;

/// List the boards that the program knows
#[derive(Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<Outcome> {
    let head = ["board", "core", "flash", "RAM", "emulated by"].map(String::from).to_vec();
    let mut rows = vec![head];
    for board in firmware_sim::boards() {
        let emulator = match board.emulated() {
            Ok((_, machine)) => format!("qemu-system-arm -M {}", machine.name),
            Err(_) => "-".to_owned(),
        };
        let bytes = |n: u32| thousands(n.into());
        rows.push(vec![board.name, board.cpu, bytes(board.flash.length), bytes(board.ram.length), emulator]);
    }
    print(&columns(&rows))?;
    Ok(Outcome::Done)
}
