//! The emulated core gives the host's bits, the same figures every time, and counts that add up.

use crate::{build, build_with, expect, run, sample, wanted};
use firmware_sim::budget::Footprint;
use firmware_sim::{Board, BuildOptions, Firmware, Inference, Placement, RunOptions, Toolchain};
use std::path::Path;

/// Logits and CRCs of `found` are those of the host, in every bit.
#[track_caller]
fn assert_same_bits(found: &[Inference], host: &[Inference]) {
    assert_eq!(found.len(), host.len());
    for (picture, (found, host)) in found.iter().zip(host).enumerate() {
        assert_eq!(found.crcs, host.crcs, "picture {picture}");
        assert_eq!(found.logits, host.logits, "picture {picture}");
    }
}

/// What was reserved before compiling is enough, and no exaggeration.
#[track_caller]
fn assert_within_estimate(firmware: &Firmware) {
    let (found, limit) = (firmware.sections().footprint(), Footprint::ESTIMATE);
    for (found, limit) in [
        (found.code, limit.code),
        (found.constants, limit.constants),
        (found.initialized, limit.initialized),
        (found.zeroed, limit.zeroed),
    ] {
        assert!(found <= limit, "{:?}", firmware.sections());
    }
    assert!(found.code > limit.code / 2, "{:?}", firmware.sections());
    // Kernels of every op and every width of weights; most of the rest is what talks with the host.
    let runtime = firmware.sections().runtime;
    assert!(runtime <= 24 * 1024 && runtime > found.code / 2, "{:?}", firmware.sections());
}

#[test]
fn every_op_gives_the_bits_of_the_host() {
    if !wanted() {
        return;
    }
    let image = runtime::testing::zoo();
    let firmware = expect(build(&image, "stm32f446re", Placement::Emulator));
    assert_within_estimate(&firmware);
    let pictures = sample::pictures(&image, 200);
    let report = expect(run(&firmware, &pictures, &RunOptions { jobs: 2, ..RunOptions::default() }));
    assert_same_bits(&report.inferences, &sample::on_host(&image, &pictures));
    assert!(report.inferences.iter().all(|i| i.instructions.is_none() && i.op_instructions.is_empty()));
}

/// The assembly of the kernels, where the host has only a model of it, on every machine that has kernels of its own.
#[test]
fn drawn_ops_give_the_bits_of_the_host() {
    if !wanted() {
        return;
    }
    for (seed, board) in [(0, "mps2-an386"), (1, "mps2-an386"), (2, "mps2-an386")]
        .into_iter()
        .chain(["mps2-an385", "stm32g0b1re", "mps2-an505", "mps3-an547"].map(|board| (3, board)))
    {
        let image = sample::drawn_ops(seed, 120);
        let firmware = expect(build(&image, board, Placement::Emulator));
        let pictures = sample::pictures(&image, 4);
        let report = expect(run(&firmware, &pictures, &RunOptions::default()));
        assert_same_bits(&report.inferences, &sample::on_host(&image, &pictures));
    }
}

#[test]
fn figures_are_the_same_every_time_and_add_up() {
    if !wanted() {
        return;
    }
    let image = runtime::testing::zoo();
    let firmware = expect(build(&image, "stm32f446re", Placement::Emulator));
    let pictures = sample::pictures(&image, 7);
    let options = RunOptions { count: true, count_ops: true, ..RunOptions::default() };
    let report = expect(run(&firmware, &pictures, &options));
    assert_eq!(expect(run(&firmware, &pictures, &options)), report);
    // Another share of the pictures for each process: the counter stands elsewhere, which rounds other ways.
    let shared = expect(run(&firmware, &pictures, &RunOptions { jobs: 3, ..options.clone() }));
    for (a, b) in report.inferences.iter().zip(&shared.inferences) {
        assert_eq!((&a.logits, &a.crcs), (&b.logits, &b.crcs));
        assert!(a.instructions.unwrap().abs_diff(b.instructions.unwrap()) <= 2);
    }
    for inference in &report.inferences {
        let (all, ops) = (inference.instructions.unwrap(), inference.op_instructions.iter().sum::<u64>());
        // Between the ops there are the pixels' tables and a few calls.
        assert!(ops < all && all - ops < all / 20, "{all} in all, {ops} in ops");
    }
    // Fewer wishes change no count: what is measured does not hold what measures.
    let only = RunOptions { crcs: false, count_ops: false, ..options };
    let alone = expect(run(&firmware, &pictures, &only));
    for (a, b) in report.inferences.iter().zip(&alone.inferences) {
        assert_eq!((&a.logits, b.crcs.len(), b.op_instructions.len()), (&b.logits, 0, 0));
        assert!(a.instructions.unwrap().abs_diff(b.instructions.unwrap()) <= 2);
    }
    assert!(report.stack_used > 256 && report.stack_used < firmware.board().stack, "{}", report.stack_used);
    assert_eq!(report.stack_size, report.sections.stack);
}

/// Only the kernels of the image: the same bits from a smaller program.
#[test]
fn what_no_op_needs_is_left_out() {
    if !wanted() {
        return;
    }
    let image = sample::resnet_sized();
    let options = BuildOptions { only_ops: true, ..BuildOptions::default() };
    let firmware = expect(build_with(&image, "mps2-an386", Placement::Emulator, &options));
    let pictures = sample::pictures(&image, 3);
    let report = expect(run(&firmware, &pictures, &RunOptions::default()));
    assert_same_bits(&report.inferences, &sample::on_host(&image, &pictures));
    let all = expect(build(&image, "mps2-an386", Placement::Emulator)).sections().runtime;
    let only = firmware.sections().runtime;
    eprintln!("{only} bytes of kernels, {all} with those of every op");
    assert!(only < 3 * all / 4, "{only} of {all}");
}

/// Longer than the counter's 24 bits, which are 10.5 million instructions.
#[test]
fn a_network_of_the_usual_size_is_counted_across_wraps() {
    if !wanted() {
        return;
    }
    let image = sample::resnet_sized();
    let firmware = expect(build(&image, "nrf52840", Placement::Emulator));
    let pictures = sample::pictures(&image, 3);
    let host = sample::on_host(&image, &pictures);
    let start = std::time::Instant::now();
    let plain = expect(run(&firmware, &pictures, &RunOptions::default()));
    eprintln!("{:.3} s an inference without counting", start.elapsed().as_secs_f64() / 3.0);
    assert_same_bits(&plain.inferences, &host);
    let options = RunOptions { crcs: false, count: true, ..RunOptions::default() };
    let start = std::time::Instant::now();
    let counted = expect(run(&firmware, &pictures, &options));
    eprintln!("{:.3} s an inference with counting", start.elapsed().as_secs_f64() / 3.0);
    let each = expect(run(&firmware, &pictures, &RunOptions { crcs: true, count: false, count_ops: true, ..options }));
    assert_same_bits(&each.inferences, &host);
    for (all, each) in counted.inferences.iter().zip(&each.inferences) {
        let (all, ops) = (all.instructions.unwrap(), each.op_instructions.iter().sum::<u64>());
        eprintln!("{all} instructions, {ops} of them in ops; {}", firmware.verdict());
        // More than the counter holds.
        assert!(all > 10_500_000, "{all}");

        assert!(ops < all && all - ops < all / 50, "{all} in all, {ops} in ops");
    }
    assert_within_estimate(&firmware);
}

/// Machines whose cores execute the same program: the same bits in the same number of instructions. The Cortex-M3 stands in for
/// a Cortex-M0+, of which QEMU has but one machine, too small for most networks.
#[test]
fn cores_with_the_same_instructions_do_the_same() {
    if !wanted() {
        return;
    }
    let image = runtime::testing::zoo();
    let pictures = sample::pictures(&image, 5);
    let options = RunOptions { count: true, ..RunOptions::default() };
    for pair in [["mps2-an386", "mps2-an500"], ["microbit", "stm32g0b1re"]] {
        let [one, other] = pair.map(|board| {
            expect(run(&expect(build(&image, board, Placement::Emulator)), &pictures, &options)).inferences
        });
        assert_same_bits(&one, &sample::on_host(&image, &pictures));
        for (one, other) in one.iter().zip(&other) {
            // Clocks of different rates are rounded in different ways, and their handler runs at other times.
            assert_eq!(one.logits, other.logits);
            assert!(
                one.instructions.unwrap().abs_diff(other.instructions.unwrap()) <= 64,
                "{pair:?}: {one:?}, {other:?}"
            );
        }
    }
}

#[test]
fn the_other_toolchain_gives_the_same_bits() {
    if !wanted() {
        return;
    }
    let image = runtime::testing::zoo();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("distribution");
    for board in ["stm32f446re", "mps3-an547"] {
        let target = Board::load(board).unwrap().target;
        let toolchain = match Toolchain::in_folder(Path::new("/usr/bin"), &target) {
            Ok(toolchain) => toolchain,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let options =
            BuildOptions { toolchain: Some(toolchain), cache: Some(cache.clone()), ..BuildOptions::default() };
        let firmware = expect(build_with(&image, board, Placement::Emulator, &options));
        assert_within_estimate(&firmware);
        let pictures = sample::pictures(&image, 20);
        let report = expect(run(&firmware, &pictures, &RunOptions::default()));
        assert_same_bits(&report.inferences, &sample::on_host(&image, &pictures));
    }
}
