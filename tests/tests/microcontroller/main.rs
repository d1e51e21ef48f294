//! What the networks of MLPerf Tiny cost on a Cortex-M4: instructions under QEMU, arena, code. Each figure may grow by 1 % over
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

/// What one network costs.
struct Cost {
    name: String,
    arena: u64,
    code: u64,
    instructions: u64,
}

fn measure(network: &exporter::network::Network, bits: u8) -> Cost {
    let pictures = networks::pictures(network, 3);
    let quantized = quantize_network(network, &pictures.concat(), &Options::mobile(bits, 8)).unwrap().network;
    let file = exporter::image::write(&quantized).unwrap();
    let image = Image::check(&file).unwrap();
    let name = format!("{} w{bits}a8", network.name);
    let kept = std::env::var_os("INTACT_KEEP").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let path = kept.as_deref().unwrap_or(folder.path()).join(format!("{}.intact", name.replace(' ', "-")));
    exporter::file::write_atomically(&path, &file).unwrap();

    let board = Board::load("mps2-an386").unwrap();
    let firmware = Firmware::build(&path, &board, Placement::Emulator, &BuildOptions::default())
        .unwrap_or_else(|error| panic!("{error}"));
    let options = RunOptions { count: true, count_ops: true, ..RunOptions::default() };
    let report = firmware.run(&pictures, &options, |_| ControlFlow::Continue(())).unwrap_or_else(|e| panic!("{e}"));

    let mut arena = vec![0; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap().with_kernels(Kernels::Reference);
    for (picture, found) in pictures.iter().zip(&report.inferences) {
        let mut crcs = vec![0; image.ops().len()];
        let logits = session.run_pixels_observed(picture, &mut Checksums::new(&mut crcs)).unwrap().bytes().to_vec();
        assert_eq!((&found.logits, &found.crcs), (&logits, &crcs), "{name}");
    }
    let found = &report.inferences[0];
    let (arena, sections) = (image.arena_bytes() as u64, report.sections);
    let instructions = found.instructions.unwrap();
    println!("{name}: {instructions} instructions, arena {arena}, stack {}, {sections:?}", report.stack_used);
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
    Cost { name, arena, code: sections.runtime.into(), instructions }
}

#[test]
fn no_figure_grows() {
    if std::env::var_os("INTACT_SKIP_EMULATOR").is_some() {
        println!("skipped: INTACT_SKIP_EMULATOR is set");
        return;
    }
    let resnet8 = networks::resnet8();
    let costs = [(&resnet8, 8), (&resnet8, 4), (&networks::mobilenet(), 8), (&networks::ds_cnn(), 8)]
        .map(|(network, bits)| measure(network, bits));
    let mut figures = Map::new();
    for Cost { name, arena, code, instructions } in costs {
        figures.insert(format!("{name}, instructions"), instructions.into());
        figures.insert(format!("{name}, arena bytes"), arena.into());
        figures.insert("runtime, code bytes".into(), code.into());
    }
    ratchet::compare(&figures, Path::new(RATCHET));
}
