//! What comes back, and what is refused.

use super::{CheckpointError, Extra, Values, load, save};
use crate::network::{Encoding, Network, Op};
use crate::samples::{Sample, network};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::path::PathBuf;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    (folder, path)
}

fn extra() -> Extra {
    let velocity =
        Values { name: "optimizer.x.0".into(), shape: vec![2, 3], values: vec![0.1, -0.2, 3e-30, 4.0, 5.0, 6.0] };
    Extra { tensors: vec![velocity], state: serde_json::json!({"step": 17, "text": "é"}) }
}

fn sample(seed: u64) -> Network {
    let mut network = network(seed, Sample { batch_norm: true, blocks: 5 });
    for (i, tensor) in network.tensors.iter_mut().enumerate() {
        tensor.encoding = (i % 2 == 0).then(|| Encoding::asymmetric(8, false, -0.1 * i as f32, 1.0 / 3.0 + i as f32));
    }
    network
}

#[test]
fn everything_comes_back_and_equal_content_gives_equal_bytes() {
    let (_folder, path) = folder();
    let mut clamps = 0;
    for seed in 0..40 {
        let network = sample(seed);
        clamps += network.nodes.iter().filter(|node| node.op == Op::RELU).count();
        save(&path, &network, &extra()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(load(&path).unwrap(), (network.clone(), extra()));
        save(&path, &network, &extra()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    assert!(clamps > 0, "no limit was infinite");
}

#[test]
fn others_can_read_the_tensors() {
    let (_folder, path) = folder();
    let network = sample(3);
    save(&path, &network, &Extra::default()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for node in &network.nodes {
        if let Op::Conv2d(conv) = &node.op {
            let view = file.tensor(&format!("{}.weight", node.name)).unwrap();
            let [r, s] = conv.window.kernel;
            assert_eq!(view.shape()[0], conv.out_channels);
            assert_eq!(view.shape()[2..], [r, s]);
            assert_eq!(view.shape().iter().product::<usize>(), conv.weight.len());
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let (_folder, path) = folder();
    save(&path, &sample(1), &extra()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 1, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let message = load(&path).unwrap_err().to_string();
        assert!(message.contains("net.safetensors") && message.contains("header"), "{message}");
    }
}

/// Writes the sample's file again after `change`, and the message that loading gives.
fn changed(change: impl FnOnce(&mut Vec<(String, Vec<usize>, Dtype, Vec<u8>)>, &mut serde_json::Value)) -> String {
    let (_folder, path) = folder();
    save(&path, &sample(1), &Extra::default()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut json = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["intact"]).unwrap();
    let mut tensors: Vec<_> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.dtype(), view.data().to_vec()))
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    change(&mut tensors, &mut json);
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, shape, dtype, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()))
        .collect();
    let metadata = (!json.is_null()).then(|| HashMap::from([("intact".to_string(), json.to_string())]));
    std::fs::write(&path, safetensors::serialize(views, metadata).unwrap()).unwrap();
    load(&path).unwrap_err().to_string()
}

#[test]
fn foreign_and_damaged_files_are_refused_with_place_found_and_expected() {
    let first = |tensors: &[(String, Vec<usize>, Dtype, Vec<u8>)]| tensors[0].0.clone();
    let mut name = String::new();

    let message = changed(|_, json| *json = serde_json::Value::Null);
    assert!(message.contains("metadata: found no entry `intact`, expected a checkpoint of this program"), "{message}");

    let message = changed(|_, json| json["format"] = 2.into());
    assert!(message.contains("metadata `format`: found 2, expected 1"), "{message}");

    let message = changed(|_, json| json["network"]["nodes"] = "none".into());
    assert!(message.contains("metadata `intact`: found") && message.contains("expected a network"), "{message}");

    let message = changed(|tensors, _| name = tensors.remove(0).0);
    assert!(message.contains(&format!("tensor `{name}`: found nothing, expected a tensor")), "{message}");

    let message = changed(|tensors, _| {
        name = first(tensors);
        tensors[0].2 = Dtype::I32;
    });
    assert!(message.contains(&format!("tensor `{name}`: found I32, expected F32")), "{message}");

    let message = changed(|tensors, _| {
        name = first(tensors);
        tensors[0].3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(message.contains(&format!("tensor `{name}`[0]: found NaN, expected a finite number")), "{message}");

    let message = changed(|tensors, _| {
        let node = first(tensors).split('.').next().unwrap().to_string();
        name = node;
        tensors[0].1 = vec![1];
        tensors[0].3.truncate(4);
    });
    assert!(message.contains(&format!("node `{name}`")) && message.contains("expected"), "{message}");
}

#[test]
fn what_must_not_be_written_is_not() {
    let (_folder, path) = folder();
    let mut network = sample(1);
    let twice = Extra { tensors: vec![extra().tensors[0].clone(), extra().tensors[0].clone()], ..Extra::default() };
    assert!(save(&path, &network, &twice).unwrap_err().to_string().contains("unique names"));
    let mut short = extra();
    short.tensors[0].shape = vec![7];
    assert!(save(&path, &network, &short).unwrap_err().to_string().contains("found 6 values, expected 7"));
    let conv = network.nodes.iter_mut().find_map(|node| match &mut node.op {
        Op::Conv2d(conv) => Some(conv),
        _ => None,
    });
    let conv = conv.unwrap();
    conv.weight[0] = f32::INFINITY;
    assert!(matches!(save(&path, &network, &extra()), Err(CheckpointError::Network { .. })));
    assert!(!path.exists(), "nothing was to be written");
}

#[test]
fn networks_with_integers_are_refused() {
    use crate::network::Integers;
    let (_folder, path) = folder();
    let mut network = sample(1);
    let dense = network.nodes.iter_mut().find_map(|node| match &mut node.op {
        Op::Dense(dense) => Some(dense),
        _ => None,
    });
    let dense = dense.unwrap();
    let encoding = Encoding::asymmetric(8, false, -1.0, 1.0);
    let (weight, bias) = (vec![0; dense.weight.len()], vec![0; dense.out_features]);
    dense.integers = Some(Integers { encoding, weight, bias });
    let message = save(&path, &network, &Extra::default()).unwrap_err().to_string();
    assert!(message.contains("found integers"), "{message}");
}
