//! What the networks of MLPerf Tiny cost on each kind of Cortex-M: instructions under QEMU, arena, code. Each figure may grow by 1 % over
//! what `ratchet.json` records, and has to be recorded anew when it falls by more: `INTACT_BLESS=1` writes the file. Every
//! picture's logits and every op's CRC are those of the host. With `INTACT_KEEP=folder` the flash images are kept there.

use exporter::pipeline::{Options, quantize_network};
use firmware_sim::{Board, BuildOptions, Firmware, Placement, RunOptions};
use intact_tests::{networks, ratchet};
use runtime::kernels::Kernels;
use runtime::observe::Checksums;
use runtime::{Image, Session};
use serde_json::Map;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const RATCHET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/microcontroller/ratchet.json");

/// What one network costs on one board.
struct Cost {
    name: String,
    board: &'static str,
    arena: u64,
    /// Code of the runtime with the kernels of every op.
    code: u64,
    /// With those of this network's, if that was asked for.
    only: Option<u64>,
    stack: u64,
    instructions: u64,
}

/// Builds the network for each board and runs it there.
fn measure(network: &exporter::network::Network, bits: u8, boards: &[&'static str], only_ops: bool) -> Vec<Cost> {
    let pictures = networks::pictures(network, 3);
    let quantized = quantize_network(network, &pictures.concat(), &Options::mobile(bits, 8)).unwrap().network;
    let file = exporter::image::write(&quantized).unwrap();
    let image = Image::check(&file).unwrap();
    let name = format!("{} w{bits}a8", network.name);
    let kept = std::env::var_os("INTACT_KEEP").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let path = kept.as_deref().unwrap_or(folder.path()).join(format!("{}.intact", name.replace(' ', "-")));
    exporter::file::write_atomically(&path, &file).unwrap();

    let mut arena = vec![0; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap().with_kernels(Kernels::Reference);
    let host: Vec<_> = pictures
        .iter()
        .map(|picture| {
            let mut crcs = vec![0; image.ops().len()];
            let logits = session.run_pixels_observed(picture, &mut Checksums::new(&mut crcs)).unwrap().bytes().to_vec();
            (logits, crcs)
        })
        .collect();
    let cost = |&board_name: &&'static str| {
        let board = Board::load(board_name).unwrap();
        let build = |only_ops| {
            let options = BuildOptions { only_ops, ..BuildOptions::default() };
            Firmware::build(&path, &board, Placement::Emulator, &options).unwrap_or_else(|error| panic!("{error}"))
        };
        let only = only_ops.then(|| u64::from(build(true).sections().runtime));
        let firmware = build(false);
        let options = RunOptions { count: true, count_ops: true, ..RunOptions::default() };
        let report = firmware.run(&pictures, &options, |_| ControlFlow::Continue(())).unwrap_or_else(|e| panic!("{e}"));
        for ((logits, crcs), found) in host.iter().zip(&report.inferences) {
            assert_eq!((&found.logits, &found.crcs), (logits, crcs), "{name} on {board_name}");
        }
        let found = &report.inferences[0];
        let instructions = found.instructions.unwrap();
        println!(
            "{name} on {board_name}: {instructions} instructions, arena {}, stack {}, runtime with only its ops {only:?}, {:?}",
            image.arena_bytes(),
            report.stack_used,
            report.sections
        );
        for (op, instructions) in image.ops().zip(&found.op_instructions) {
            let per_mac = *instructions as f64 / op.macs().max(1) as f64;
            let shape = op.output().shape();
            println!(
                "{:24} {:18} {shape:?} {:>9} MAC {instructions:>9} {per_mac:.2}",
                op.name(),
                op.repr.kind.name(),
                op.macs()
            );
        }
        Cost {
            name: name.clone(),
            board: board_name,
            arena: image.arena_bytes() as u64,
            code: report.sections.runtime.into(),
            only,
            stack: report.stack_used.into(),
            instructions,
        }
    };
    boards.iter().map(cost).collect()
}

#[test]
fn no_figure_grows() {
    if std::env::var_os("INTACT_SKIP_EMULATOR").is_some() {
        println!("skipped: INTACT_SKIP_EMULATOR is set");
        return;
    }
    let resnet8 = networks::resnet8();
    // A Cortex-M4, and M33, M55, M0+, M3 beside it.
    let costs = [
        measure(&resnet8, 8, &["mps2-an386", "mps2-an505", "mps3-an547", "stm32g0b1re", "mps2-an385"], true),
        measure(&resnet8, 4, &["mps2-an386", "mps3-an547"], false),
        measure(&networks::mobilenet(), 8, &["mps2-an386", "mps3-an547"], false),
        measure(&networks::ds_cnn(), 8, &["mps2-an386", "mps3-an547", "stm32g0b1re", "mps2-an385"], false),
    ];
    let mut figures = Map::new();
    for Cost { name, board, arena, code, only, stack, instructions } in costs.into_iter().flatten() {
        figures.insert(format!("{name}, arena bytes"), arena.into());
        figures.insert(format!("{name}, {board}, instructions"), instructions.into());
        figures.insert(format!("{board}, code bytes of the runtime"), code.into());
        if let Some(only) = only {
            figures.insert(format!("{name}, {board}, code bytes of the runtime with only its ops"), only.into());
        }
        // The start-up code's and semihosting's included; it moves by a frame when the compiler inlines otherwise.
        assert!(stack < 4096, "{name} on {board}: {stack} bytes of stack");
    }
    ratchet::compare(&figures, Path::new(RATCHET));
}
