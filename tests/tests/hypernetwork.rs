//! `intact ghn` as a person uses it: a training that is killed goes on from its checkpoint to the same hypernetwork, to the last
//! bit; what is refused before anything is drawn; how noisy a gradient is; a start that other commands know by its name.

use intact_tests::command::{binary, intact};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Networks of the larger space, which are drawn at once; a checkpoint after each of three rows of 5 steps.
fn arguments(out: &Path) -> Vec<String> {
    let out = out.to_string_lossy();
    let text = "ghn train --space mobile --bits w4a4,w2a2 --data shapes10 --nets 4 --steps 15 --row 5 --batch 2 --meta-batch 1 \
                --checkpoint-every 0 --batch-norm accumulator --cut 0.05 --cut-activations 0.03 --noise-up-to 0";
    text.split_whitespace().chain(["--out", &out]).map(str::to_owned).collect()
}

/// The tensors of a SafeTensors file; its header holds seconds.
fn tensors(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

#[test]
fn a_killed_training_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    intact(&arguments(&whole)).expect(0);

    let mut child = Command::new(binary()).args(arguments(&killed)).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let checkpoint = killed.join("checkpoint.safetensors");
    while !checkpoint.exists() {
        assert!(began.elapsed() < Duration::from_secs(300), "no checkpoint in five minutes");
        assert_eq!(child.try_wait().unwrap(), None, "the run ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGKILL: nothing is put in order.
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(tensors(&checkpoint), tensors(&whole.join("checkpoint.safetensors")), "killed only after its last step");
    let rest = intact(&arguments(&killed)).expect(0);
    assert!(rest.stderr.contains("going on with"), "{}", rest.stderr);
    for file in ["checkpoint.safetensors", "ghn.safetensors"] {
        assert!(tensors(&killed.join(file)) == tensors(&whole.join(file)), "{file} is another one");
    }
    let log = |folder: &Path| fs::read_to_string(folder.join("log.jsonl")).unwrap().lines().count();
    assert_eq!((log(&whole), log(&killed)), (3, 3));
}

#[test]
fn figures_out_of_range_are_refused_before_networks_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = arguments(folder.path());
    wrong.extend(["--lr", "nan"].map(str::to_owned));
    intact(&wrong).expect(2).complains(&["rate: found NaN, expected a positive number"]);
    assert!(!folder.path().join("train.graphs").exists());
}

#[test]
fn the_noise_of_a_gradient_is_shown_part_by_part() {
    let ghn = concat!(env!("CARGO_MANIFEST_DIR"), "/../checkpoints/ghn-edge-folded.safetensors");
    let noise = |nets: &str| intact(&["ghn", "noise", "--ghn", ghn, "--nets", nets, "--batches", "2", "--batch", "4"]);
    let found = noise("3").expect(0).stdout;
    let all = found.lines().find(|line| line.starts_with("| all |")).unwrap_or_else(|| panic!("{found}"));
    let figures: Vec<f64> = all.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
    let [_, nets, images, both, shared, own] = figures[..] else { panic!("{all}") };
    assert!(both > 0.0 && found.contains("| decoder.conv.1.weight |"), "{found}");
    // Of figures with two digits.
    let close = |found: f64, expected: f64| (found - expected).abs() < 0.1 * (nets.abs() + images.abs() + both.abs());
    assert!(close(shared, images + (nets + both) / 4.0) && close(own, (nets + images + both) / 4.0), "{all}");
    noise("1").expect(2).complains(&["1 is not in 2..=1000"]);
    intact(&["ghn", "noise", "--ghn", ghn, "--cut", "7"]).expect(2).complains(&["found 7"]);
    for (length, found) in [("nan", "found NaN"), ("-1", "found -1"), ("inf", "found inf"), ("x", "found `x`")] {
        for verb in [["noise", "--ghn", ghn], ["train", "--out", "nowhere"]] {
            let arguments = [&["ghn"], &verb[..], &["--clip-network", length]].concat();
            intact(&arguments).expect(2).complains(&[found]);
        }
    }
}

#[test]
fn a_start_has_a_name_that_other_commands_know() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let init = |batches: &str, out: &str| {
        intact(&["init", "edge:id:3", "--bits", "w4a4", "--batches", batches, "--data", "shapes10", "--out", out])
    };
    let other = out("start.st");
    init("1", &other).expect(2).complains(&["start.st: expected a name in .safetensors"]);
    assert!(!Path::new(&other).exists());
    let start = out("start.safetensors");
    init("0", &start).expect(2).complains(&["0 is not in 1..=65535"]);
    assert!(init("1", &start).expect(0).stdout.contains("statistics of 64 images"));
    intact(&["inspect", &start]).expect(0);
}
