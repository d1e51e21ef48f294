//! Runs: the same bits after being killed, files, refusals; quantized networks have gradients.

use crate::graph::{Architecture, Request, Sampler, Space, Split, Task};
use crate::hypernet::train::{Event, Fall, Recipe, Run, State, TrainError};
use crate::hypernet::{Rounding, Setting, load, save};
use burn::tensor::Device;
use exporter::data::Dataset;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn recipe() -> Recipe {
    Recipe {
        nets: 20,
        steps: 12,
        batch: 8,
        own_images: true,
        balanced: true,
        meta_batch: 2,
        warmup: 3,
        fall: Fall::Cosine,
        average: 0.9,
        settings: vec![Setting::FLOAT, Setting::new(4, 8), Setting::new(2, 2)],
        rounding: Rounding::NoiseOnWeights,
        ..Recipe::paper(Space::Edge)
    }
}

fn data() -> Dataset {
    let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
    data.subset(0..96)
}

fn nets(data: &Dataset, split: Split) -> Vec<Architecture> {
    let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
    // A split of tests: one of training would first draw all of those.
    let sampler = Sampler::new(Request { task, ..Request::new(Space::Edge, split, 4) }).unwrap();
    (0..20).map(|i| sampler.draw(i).unwrap().0).collect()
}

/// A run in `folder`; it stops after the row whose last step is `stop_at`.
fn go(folder: &Path, recipe: &Recipe, threads: usize, stop_at: Option<u64>) -> Result<State, TrainError> {
    let nets = nets(&data(), Split::Id);
    go_with(folder, recipe, threads, stop_at, [&nets, &[]])
}

/// The same with these networks, and these without BatchNorm.
fn go_with(
    folder: &Path,
    recipe: &Recipe,
    threads: usize,
    stop_at: Option<u64>,
    [nets, norm_free]: [&[Architecture]; 2],
) -> Result<State, TrainError> {
    let (data, device, stop) = (data(), Device::flex(), AtomicBool::new(false));
    let (checkpoint, result) = (folder.join("checkpoint.safetensors"), folder.join("ghn.safetensors"));
    let run = Run {
        recipe,
        data: &data,
        nets,
        norm_free,
        checkpoint: &checkpoint,
        result: &result,
        every: Duration::ZERO,
        row: 4,
        threads,
        device: &device,
        stop: &stop,
    };
    let mut state = if checkpoint.exists() { run.resume()? } else { run.start(None)? };
    run.go(&mut state, &mut |event| {
        if let Event::Row(row, _) = event
            && Some(row.step) == stop_at
        {
            stop.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(state)
}

#[test]
fn a_run_that_was_stopped_ends_with_the_same_bits() {
    let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let straight = go(whole.path(), &recipe(), 1, None).unwrap();
    assert_eq!((straight.step(), straight.skipped(), straight.rows().len()), (12, 0, 3));
    // Stopped after the first and after the second row, on another number of threads; what was half done is lost.
    for (threads, stop_at, step) in [(2, Some(4u64), 4), (3, Some(8), 8), (2, None, 12)] {
        assert_eq!(go(parts.path(), &recipe(), threads, stop_at).unwrap().step(), step);
        std::fs::write(parts.path().join(".checkpoint.partial"), b"cut off").unwrap();
    }
    for name in ["checkpoint.safetensors", "ghn.safetensors"] {
        let [a, b] = [&whole, &parts].map(|folder| load(&folder.path().join(name)).unwrap());
        assert_eq!((&a.parameters, &a.memory), (&b.parameters, &b.memory), "{name}");
    }
    let result = load(&whole.path().join("ghn.safetensors")).unwrap();
    assert_eq!(result.memory, None);
    assert_ne!(result.parameters, straight.parameters, "the average is not the last");
}

#[test]
fn a_checkpoint_goes_on_under_its_own_recipe_only() {
    let folder = tempfile::tempdir().unwrap();
    let short = Recipe { steps: 4, ..recipe() };
    go(folder.path(), &short, 2, None).unwrap();
    let error = go(folder.path(), &Recipe { rate: 0.5, ..short.clone() }, 2, None).unwrap_err().to_string();
    assert!(error.ends_with("checkpoint.safetensors: another recipe: rate: found 0.001, expected 0.5"), "{error}");
    let error = go(&folder.path().join("none"), &Recipe { rate: -1.0, ..short }, 2, None).unwrap_err().to_string();
    assert_eq!(error, "rate: found -1, expected a positive number");
}

#[test]
fn damaged_files_are_refused_with_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    go(folder.path(), &Recipe { steps: 4, ..recipe() }, 2, None).unwrap();
    let path = folder.path().join("ghn.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        load(&path).unwrap_err().to_string()
    };
    assert!(refused(&bytes[..bytes.len() / 2]).contains("ghn.safetensors: not a SafeTensors file"));
    assert!(refused(b"").contains("not a SafeTensors file"));
    let mut poisoned = bytes.clone();
    let end = poisoned.len();
    poisoned[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(refused(&poisoned).contains("found NaN, expected finite values"));
    let other = String::from_utf8_lossy(&bytes[8..2000]).into_owned();
    let place = other.find("\\\"format\\\":1").expect("the header names its format") + 8 + "\\\"format\\\":".len();
    let mut newer = bytes.clone();
    newer[place] = b'7';
    let error = refused(&newer);
    assert!(error.contains("format: found 7, expected 1"), "{error}");
    std::fs::write(&path, &bytes).unwrap();
    let saved = load(&path).unwrap();
    save(&path, &saved).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_share_of_networks_without_batch_norm_is_drawn() {
    let (id, free) = (nets(&data(), Split::Id), nets(&data(), Split::BnFree));
    let run = |norm_free_share, nets: [&[Architecture]; 2]| {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe { steps: 2, batch: 4, norm_free_share, ..recipe() };
        go_with(folder.path(), &recipe, 2, None, nets).map(|state| state.parameters).map_err(|e| e.to_string())
    };
    assert_eq!(run(0.0, [&id, &[]]), run(0.0, [&id, &free]), "without a share they are not looked at");
    assert_eq!(run(1.0, [&id, &free]), run(1.0, [&free, &free]), "with all there is nothing else");
    assert_ne!(run(0.5, [&id, &free]), run(1.0, [&id, &free]));
    assert_ne!(run(0.5, [&id, &free]), run(0.5, [&free, &free]));
    assert_eq!(run(0.5, [&id, &[]]).unwrap_err(), "share without BatchNorm: found 0.5 of no networks");
    assert_eq!(run(1.5, [&id, &free]).unwrap_err(), "share without BatchNorm: found 1.5, expected 0 to 1");
}
