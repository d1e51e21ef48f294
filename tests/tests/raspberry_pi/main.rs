//! The kernels of a Raspberry Pi under QEMU's user mode: Cortex-A53 (Zero 2, 3), A72 (4), A76 (5), and those of later 64-bit
//! Arm cores on `max`, which has all that QEMU knows. Instructions of an inference may grow by 1 % over what `ratchet.json`
//! records; every executor of every core gives the integers of this machine's. A machine without a cross compiler or
//! `qemu-aarch64` fails, with what is missing: `cargo validate` installs it.

use exporter::network::Network;
use exporter::pipeline::{Options, quantize_network};
use intact_tests::{networks, ratchet, real};
use runtime::host::{Executor, Prepared};
use runtime::{Image, Kernels};
use serde_json::Map;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const RATCHET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/raspberry_pi/ratchet.json");

/// Cores, and the executors each must have, the slowest first.
const CORES: [(&str, &[&str]); 4] = [
    ("cortex-a53", &["reference", "packed", "portable", "neon"]),
    ("cortex-a72", &["reference", "packed", "portable", "neon"]),
    ("cortex-a76", &["reference", "packed", "portable", "neon", "dotprod"]),
    ("max", &["reference", "packed", "portable", "neon", "dotprod", "i8mm"]),
];

/// The fastest executors of a Pi 4, of a Pi 5, and of a core with matrix products of bytes.
const FASTEST: [(&str, &str); 3] = [("cortex-a72", "neon"), ("cortex-a76", "dotprod"), ("max", "i8mm")];

fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; `cargo validate` installs it"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A folder that stays between runs.
fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The example `infer` of the runtime, for aarch64.
fn infer() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let target = folder().join("aarch64");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(root).args(["build", "--release", "--package", "intact-runtime", "--features", "std"]);
        cargo.args(["--example", "infer", "--target", "aarch64-unknown-linux-gnu", "--config", ".cargo/pi.toml"]);
        done(cargo.arg("--target-dir").arg(&target));
        target.join("aarch64-unknown-linux-gnu/release/examples/infer")
    })
}

/// The plugin that counts.
fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let version = String::from_utf8(done(Command::new("qemu-aarch64").arg("--version")).stdout).unwrap();
        let major = version.split_once("version ").and_then(|(_, rest)| rest.split('.').next()?.parse::<u32>().ok());
        let interface = if major.unwrap_or_else(|| panic!("no version in {version}")) < 9 { 1 } else { 2 };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/raspberry_pi/count.c");
        let plugin = folder().join("count.so");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-shared", "-fPIC", source, "-o"]).arg(&plugin);
        done(cc.arg(format!("-DPLUGIN_VERSION={interface}")));
        plugin
    })
}

/// Files of a network and its pictures.
struct Files<'f> {
    image: &'f Path,
    pictures: &'f Path,
}

/// Runs `infer` on a core. Leaves the logits of each picture in hexadecimal.
fn run(core: &str, executor: &str, files: &Files, further: &[&str]) -> Vec<String> {
    let mut qemu = Command::new("qemu-aarch64");
    // What there is in the environment costs instructions before the first picture.
    qemu.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    qemu.args(["-cpu", core]).args(further).arg(infer()).args([files.image, files.pictures]).arg(executor);
    String::from_utf8(done(&mut qemu).stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The same by an executor of this machine.
fn here(executor: Executor, file: &[u8], pictures: &[&[u8]]) -> Vec<String> {
    let mut network = Prepared::with(Image::check(file).unwrap(), executor);
    let mut hex = |picture: &&[u8]| {
        let logits = network.run_pixels(picture).unwrap();
        logits.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    pictures.iter().map(&mut hex).collect()
}

/// Marks that the plugin leaves of two pictures: begin and end of each, in instructions since the start of the program.
fn marks(core: &str, executor: &str, files: &Files, expected: &[String]) -> [u64; 4] {
    let temporary = tempfile::tempdir().unwrap();
    let counts = temporary.path().join("counts");
    let counting = format!("{},out={}", plugin().display(), counts.display());
    let found = run(core, executor, files, &["-plugin", &counting]);
    assert_eq!(found, expected, "{core} {executor} {}", files.image.display());
    let counts = std::fs::read_to_string(&counts).unwrap();
    let marks: Vec<u64> = counts.lines().map(|line| line.parse().unwrap()).collect();
    marks.try_into().unwrap_or_else(|_| panic!("{core} {executor}: {counts}"))
}

/// Instructions of the second of two inferences, for each of [`FASTEST`], and until the first one, with weights packed on loading
/// and in the image.
fn instructions(network: &Network, bits: u8, figures: &mut Map<String, serde_json::Value>) {
    let pictures = networks::pictures(network, 2);
    let quantized = quantize_network(network, &pictures.concat(), &Options::mobile(bits, 8)).unwrap().network;
    let file = exporter::image::write(&quantized).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    std::fs::write(at("image"), &file).unwrap();
    std::fs::write(at("pictures"), pictures.concat()).unwrap();
    let pictures_file = at("pictures");
    let expected = here(Executor::best(), &file, &pictures.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for (core, executor) in FASTEST {
        let name = format!("{} w{bits}a8, {core} {executor}", network.name);
        let packed = exporter::image::pack(&file, &[executor.parse().unwrap()]).unwrap();
        std::fs::write(at("packed"), &packed).unwrap();
        let of = |image: &str| marks(core, executor, &Files { image: &at(image), pictures: &pictures_file }, &expected);
        let ([first, _, begin, end], [packed, _, packed_begin, packed_end]) = (of("image"), of("packed"));
        let counts = [("", end - begin), (", first picture", first), (", first picture, packed weights", packed)];
        for (what, count) in counts {
            println!("{name}{what}: {count}");
            figures.insert(format!("{name}{what}"), count.into());
        }
        // Weights are where they are: the same program multiplies with them.
        let (alone, packed) = (end - begin, packed_end - packed_begin);
        assert!(alone.abs_diff(packed) * 1000 < alone, "{name}: {alone} and {packed} instructions");
    }
}

fn is_skipped() -> bool {
    let skipped = std::env::var_os("INTACT_SKIP_EMULATOR").is_some();
    if skipped {
        println!("skipped: INTACT_SKIP_EMULATOR is set");
    }
    skipped
}

#[test]
fn no_count_grows() {
    if is_skipped() {
        return;
    }
    let mut figures = Map::new();
    let resnet8 = networks::resnet8();
    for (network, bits) in [
        (&resnet8, 8),
        (&resnet8, 4),
        (&networks::resnet20(), 8),
        (&networks::mobilenet_v2(), 8),
        (&networks::ds_cnn(), 8),
    ] {
        instructions(network, bits, &mut figures);
    }
    ratchet::compare(&figures, Path::new(RATCHET));
}

/// With `INTACT_ALL_IMAGES` on 10,000 images for the executors of this machine, of which the reference kernels, which run 50 otherwise, take
/// ten minutes, and for the fastest of each core; the others under QEMU run 100.
#[test]
fn all_executors_give_the_same_logits() {
    if is_skipped() {
        return;
    }
    let all = std::env::var_os("INTACT_ALL_IMAGES").is_some();
    let (set, _) = real::images(if all { 10_000 } else { 200 });
    let file = exporter::image::write(&real::quantized(&set.subset(0..20))).unwrap();
    let pictures: Vec<&[u8]> = (0..set.len()).map(|i| set.image(i)).collect();
    let expected = here(Executor::Plain(Kernels::Portable), &file, &pictures);
    let differing = |found: &[String]| found.iter().zip(&expected).filter(|(a, b)| a != b).count();
    for executor in Executor::all() {
        let is_slow = executor == Executor::Plain(Kernels::Reference);
        let count = if is_slow && !all { 50 } else { pictures.len() };
        let found = here(executor, &file, &pictures[..count]);
        println!("{executor} on this machine: {} of {count} images differ", differing(&found));
        assert_eq!(differing(&found), 0, "{executor}");
    }
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    std::fs::write(at("image"), &file).unwrap();
    for (core, executors) in CORES {
        let found = String::from_utf8(done(Command::new("qemu-aarch64").args(["-cpu", core]).arg(infer())).stdout);
        assert_eq!(found.unwrap().lines().collect::<Vec<_>>(), executors, "executors of {core}");
        for executor in executors {
            let count = match *executor {
                "reference" => 1,
                fastest if FASTEST.contains(&(core, fastest)) && all => pictures.len(),
                _ => 100,
            };
            std::fs::write(at("pictures"), pictures[..count].concat()).unwrap();
            let files = Files { image: &at("image"), pictures: &at("pictures") };
            let found = run(core, executor, &files, &[]);
            assert_eq!(found.len(), count);
            println!("{executor} on {core}: {} of {count} images differ", differing(&found));
            assert_eq!(differing(&found), 0, "{executor} on {core}");
        }
    }
}
