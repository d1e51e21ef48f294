//! Softmax on integers: kept where a file has it quantized or where it is asked for, back as it was written, and how far ONNX Runtime,
//! which computes it in floats, is from it.

use prost::Message;

use super::foreign::{expected, import, import_with, picture};
use super::onnx_runtime::{Case, cases, compare, run};
use super::{anonymous_image, decode, float, forms, low_bit_forms, read_back};
use crate::execute::{Executor, Mode};
use crate::network::{Network, Op};
use crate::onnx::{Form, ReadOptions, WriteOptions, read, write_float, write_qdq};
use crate::pipeline::{Options, quantize_network};
use crate::samples::images;

const FORMS: [Form; 3] = [Form::Qdq, Form::QOperator, Form::OnnxRuntime];

/// A drawn network that ends in shares of 1.
fn drawn(seed: u64) -> Network {
    let mut network = float(seed);
    network.push("shares", Op::Softmax, &[network.output]).unwrap();
    network
}

fn quantized(seed: u64, options: &Options) -> Network {
    let float = drawn(seed);
    quantize_network(&float, &images(&float, 8, seed), options).unwrap().network
}

fn ends_in_softmax(network: &Network) -> bool {
    network.nodes.last().is_some_and(|node| node.op == Op::Softmax)
}

#[test]
fn it_comes_back_to_the_same_flash_image() {
    for (i, options) in forms().into_iter().chain(low_bit_forms()).enumerate() {
        let network = quantized(i as u64, &options);
        let shares = network.tensors[network.output].encoding.as_ref().unwrap();
        assert_eq!((shares.scale[0], shares.zero_point[0]), (0.5f32.powi(shares.bits.into()), shares.qmin()));
        for form in FORMS {
            let written = write_qdq(&network, &WriteOptions { form, ..WriteOptions::default() }).unwrap();
            let back = read_back(&written);
            assert!(back.quantized && back.notes.is_empty() && ends_in_softmax(&back.network), "{:?}", back.notes);
            assert!(anonymous_image(&back.network) == anonymous_image(&network), "{options:?}, {form:?}");
        }
    }
}

#[test]
fn at_the_end_of_a_float_file_it_stays_if_asked_for() {
    let mut found = 0;
    for (name, expected) in expected().into_iter().filter(|(name, _)| !name.starts_with("ort-")) {
        let left_out = import(&name).notes.iter().any(|note| note.contains("Softmax"));
        let kept = import_with(&name, true);
        assert_eq!(ends_in_softmax(&kept.network), left_out, "{name}");
        assert!(kept.notes.iter().all(|note| !note.contains("Softmax")), "{name}: {:?}", kept.notes);
        let shares = Executor::new(&kept.network, Mode::Float).unwrap().logits(&picture(&kept.network)).unwrap();
        let worst = shares.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-5, "{name}: {worst}");
        found += usize::from(left_out);
    }
    assert!(found >= 4, "{found} files end in a Softmax");
}

#[test]
fn over_anything_but_channels_it_is_refused() {
    let mut network = float(3);
    let node = network.nodes.iter().find(|node| network.tensors[node.output].shape.pixels() > 1).unwrap();
    network.output = node.output;
    network.push("shares", Op::Softmax, &[network.output]).unwrap();
    let mut model = decode(&write_float(&network, &WriteOptions::default()).unwrap());
    let mut read_along = |axis: i64| {
        let nodes = &mut model.graph.as_mut().unwrap().node;
        nodes.iter_mut().find(|node| node.op_type == "Softmax").unwrap().attribute[0].i = axis;
        let options = ReadOptions { keep_softmax: true, ..ReadOptions::default() };
        read(&model.encode_to_vec(), "test.onnx", &options).map(|imported| ends_in_softmax(&imported.network))
    };
    assert_eq!(read_along(1).ok(), Some(true));
    assert_eq!(read_along(-3).ok(), Some(true));
    for axis in [2, 3, -1, 0, i64::MIN] {
        let error = read_along(axis).unwrap_err().to_string();
        assert!(error.contains("`shares`") && error.contains("only over classes"), "{error}");
    }
}

/// ONNX Runtime makes a QLinearSoftmax of it, which looks exponentials up as we do but in floats: where the exact share lies within
/// its rounding errors of a tie, the last bit may differ.
#[test]
fn onnx_runtime_differs_on_ties_only() {
    for options in forms() {
        let drawn: Vec<Case> = cases(24, 64, |seed| quantized(seed, &options));
        let signed: &[&str] = if options.activations.signed { &["--signed"] } else { &[] };
        let Some(ran) = run(&drawn, &WriteOptions::default(), signed) else { return };
        for ran in &ran {
            assert_eq!(ran.line["float"], serde_json::json!([]), "everything in integer kernels");
        }
        let comparison = compare(&drawn, &ran);
        for d in &comparison.differences {
            assert!(d.op == "Softmax" && d.ours.abs_diff(d.theirs) == 1 && d.from_tie < 1e-4, "{d:?}");
        }
        println!(
            "{:?}, signed {}: {} of {} shares differ",
            options.weights.scheme,
            options.activations.signed,
            comparison.differences.len(),
            comparison.elements["Softmax"]
        );
    }
}
