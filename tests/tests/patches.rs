//! What patches save: the arena of networks that are wide near their input, with the first ops in bands of rows and without. The logits
//! are the same, on the fastest executor of this machine and on an emulated Cortex-M4.

use exporter::pipeline::{Options, quantize_network};
use firmware_sim::{Board, BuildOptions, Firmware, Placement, RunOptions};
use intact_tests::networks;
use runtime::Image;
use runtime::host::Prepared;
use std::ops::ControlFlow;

#[test]
fn networks_that_are_wide_at_first_need_less_memory() {
    let network = networks::mobilenet_v2();
    let pictures = networks::pictures(&network, 2);
    let quantized = quantize_network(&network, &pictures.concat(), &Options::mobile(8, 8)).unwrap().network;
    let whole = exporter::image::write(&quantized).unwrap();
    let mut whole = Prepared::new(Image::check(&whole).unwrap());
    let logits: Vec<Vec<u8>> = pictures.iter().map(|x| whole.run_pixels(x).unwrap().bytes().to_vec()).collect();
    for (count, most) in [(2, 112_000), (4, 78_000), (8, 75_000)] {
        let (file, patched) = exporter::image::write_in_patches(&quantized, count).unwrap();
        println!("{} in {count} patches: {patched:?}", network.name);
        assert!(patched.arena[1] < most, "{patched:?}");
        let mut in_patches = Prepared::new(Image::check(&file).unwrap());
        for (picture, expected) in pictures.iter().zip(&logits) {
            assert_eq!(in_patches.run_pixels(picture).unwrap().bytes(), expected, "{count} patches");
        }
        if count == 8 {
            on_a_microcontroller(&file, &pictures, &logits);
        }
    }
}

fn on_a_microcontroller(file: &[u8], pictures: &[Vec<u8>], logits: &[Vec<u8>]) {
    if std::env::var_os("INTACT_SKIP_EMULATOR").is_some() {
        return println!("not on an emulated board: INTACT_SKIP_EMULATOR is set");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("patches.intact");
    std::fs::write(&path, file).unwrap();
    let board = Board::load("mps2-an386").unwrap();
    let firmware = Firmware::build(&path, &board, Placement::Emulator, &BuildOptions::default());
    let firmware = firmware.unwrap_or_else(|error| panic!("{error}"));
    let options = RunOptions { crcs: false, count: true, ..RunOptions::default() };
    let report = firmware.run(pictures, &options, |_| ControlFlow::Continue(())).unwrap_or_else(|e| panic!("{e}"));
    println!("on {}: {:?} instructions", board.name, report.inferences[0].instructions);
    for (found, expected) in report.inferences.iter().zip(logits) {
        assert_eq!(&found.logits, expected, "on {}", board.name);
    }
}

/// The picture and what the first ops make of it are as large as the arena that strips of rows need.
#[test]
fn patches_that_cannot_help_are_refused() {
    let network = networks::mobilenet();
    let pictures = networks::pictures(&network, 2);
    let quantized = quantize_network(&network, &pictures.concat(), &Options::mobile(8, 8)).unwrap().network;
    let bytes = exporter::image::arena(&quantized).unwrap().bytes;
    for count in [2, 4, 8] {
        let error = exporter::image::write_in_patches(&quantized, count).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{count} patches: the arena has {bytes} bytes without them, and no fewer with the first ops in patches"
            )
        );
    }
}
