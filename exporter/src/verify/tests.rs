//! Comparison by hand, tract on files written here, and a fault that must be found where it was made.

use super::*;
use crate::execute::{Executor, Mode};
use crate::network::{Conv2d, Dense, Op};
use crate::onnx::{ReadOptions, WriteOptions, read, write_float, write_qdq};
use crate::pipeline::{Options, quantize_network};
use crate::samples::{self, Sample};

/// A quantized network, its file, and images.
fn quantized(seed: u64) -> (Network, Vec<u8>, Vec<u8>) {
    let float = samples::network(seed, Sample { batch_norm: true, blocks: 4 });
    let images = samples::images(&float, 12, seed);
    let network = quantize_network(&float, &images, &Options::mobile(8, 8)).unwrap().network;
    let bytes = write_qdq(&network, &WriteOptions::default()).unwrap();
    (read(&bytes, "sample", &ReadOptions::default()).unwrap().network, bytes, images)
}

fn request<'a>(network: &'a Network, bytes: &'a [u8], pixels: &'a [u8], quantized: bool) -> Request<'a> {
    Request {
        path: Path::new("sample.onnx"),
        bytes,
        network,
        quantized,
        pixels,
        tapped: 5,
        kernels: runtime::host::Executor::best(),
    }
}

#[test]
fn tract_answers_as_the_runtime_does() {
    let (mut compared, mut exact) = (0, 0);
    for seed in 0..8 {
        let (network, bytes, images) = quantized(seed);
        let request = request(&network, &bytes, &images, true);
        let ours = reference(&request).unwrap();
        assert_eq!(ours.outputs.len(), 12 * 7);
        let found = compare(&request, &ours, &tract(&request).unwrap());
        assert_eq!((found.images, found.values), (12, 84));
        assert_eq!(found.tapped[0], found.tapped[1], "seed {seed}: every integer tensor has a name in the file");
        // tract rounds ties its own way, and what follows may drift by steps.
        assert!(found.largest <= 4.0, "seed {seed}: {found:?}");
        if let Some(first) = &found.first {
            assert!(first.largest == 1 && first.differing * 20 <= first.elements, "seed {seed}: {found:?}");
        }
        (compared, exact) = (compared + 1, exact + usize::from(found.differing == 0));
    }
    assert!(exact * 2 >= compared, "{exact} of {compared} networks are equal");
}

/// What a network has of a Softmax is compared behind it. tract 0.23.9 makes a table of whatever stands between DequantizeLinear
/// and QuantizeLinear, of a Softmax too, each value of which is then all there is: such a difference has to be found and named.
#[test]
fn shares_are_compared_as_shares() {
    for seed in 0..4 {
        let mut float = samples::network(seed, Sample { batch_norm: true, blocks: 2 });
        float.push("shares", Op::Softmax, &[float.output]).unwrap();
        let images = samples::images(&float, 12, seed);
        let network = quantize_network(&float, &images, &Options::mobile(8, 8)).unwrap().network;
        let bytes = write_qdq(&network, &WriteOptions::default()).unwrap();
        let network = read(&bytes, "sample", &ReadOptions::default()).unwrap().network;
        let request = request(&network, &bytes, &images, true);
        let (ours, theirs) = (reference(&request).unwrap(), tract(&request).unwrap());
        for shares in ours.outputs.chunks_exact(7) {
            let sum: f32 = shares.iter().sum();
            assert!((252.0..=260.0).contains(&sum), "{shares:?}");
        }
        let found = compare(&request, &ours, &theirs);
        assert_eq!(found.tapped[0], found.tapped[1]);
        assert!(theirs.outputs.iter().all(|&share| share == 255.0), "tract has mended it: {:?}", theirs.outputs);
        let softmax = found.ops.iter().find(|op| op.op == "Softmax").expect("the difference is the Softmax's own");
        assert!(softmax.largest > 100 && found.differing == found.values, "{found:?}");
    }
}

#[test]
fn a_float_file_is_compared_with_the_float_executor() {
    for seed in 0..5 {
        let network = samples::network(seed, Sample { batch_norm: true, blocks: 4 });
        let images = samples::images(&network, 6, seed);
        let bytes = write_float(&network, &WriteOptions::default()).unwrap();
        let request = request(&network, &bytes, &images, false);
        let ours = reference(&request).unwrap();
        assert_eq!(ours.outputs, Executor::new(&network, Mode::Float).unwrap().logits(&images).unwrap());
        let found = compare(&request, &ours, &tract(&request).unwrap());
        assert_eq!((found.predictions, found.first.is_none()), (0, true));
        assert!(found.largest < 1e-3, "{found:?}");
    }
}

/// Below 8 bit the output is what stands behind the Clip, whether or not the other tensors are looked at.
#[test]
fn narrow_outputs_are_those_behind_the_clip() {
    for seed in 0..4 {
        let float = samples::network(seed, Sample { batch_norm: true, blocks: 2 });
        let images = samples::images(&float, 12, seed);
        let network = quantize_network(&float, &images, &Options::mobile(4, 2)).unwrap().network;
        let bytes = write_qdq(&network, &WriteOptions::default()).unwrap();
        let network = read(&bytes, "sample", &ReadOptions::default()).unwrap().network;
        let request = Request { tapped: 0, ..request(&network, &bytes, &images, true) };
        let theirs = tract(&request).unwrap();
        assert!(theirs.outputs.iter().all(|&x| (0.0..4.0).contains(&x)), "{:?}", theirs.outputs);
        assert!(compare(&request, &reference(&request).unwrap(), &theirs).largest <= 3.0);
    }
}

/// One weight of one layer is changed behind the file's back: that layer is the first that differs.
#[test]
fn a_fault_is_found_where_it_is() {
    let mut caught = 0;
    for seed in 0..8 {
        let (network, bytes, images) = quantized(seed);
        let before = request(&network, &bytes, &images, true);
        let clean = compare(&before, &reference(&before).unwrap(), &tract(&before).unwrap());
        let layers: Vec<usize> = (0..network.nodes.len())
            .filter(|&id| matches!(network.nodes[id].op, Op::Conv2d(_) | Op::Dense(_)))
            .collect();
        let faulty = layers[layers.len() / 2];
        let mut other = network.clone();
        let name = other.nodes[faulty].name.clone();
        if let Op::Conv2d(Conv2d { integers: Some(integers), .. }) | Op::Dense(Dense { integers: Some(integers), .. }) =
            &mut other.nodes[faulty].op
        {
            integers.bias.iter_mut().for_each(|bias| *bias += 3_000);
        }
        let after = request(&other, &bytes, &images, true);
        let found = compare(&after, &reference(&after).unwrap(), &tract(&after).unwrap());
        // An op before it that rounds a tie otherwise would be named instead.
        if clean.first.is_none() {
            assert_eq!(found.first.map(|first| first.node), Some(name), "seed {seed}");
            caught += 1;
        }
    }
    assert!(caught >= 3, "{caught} networks only are equal to begin with");
}

#[test]
fn differences_are_counted() {
    let (network, bytes, images) = quantized(1);
    let request = request(&network, &bytes, &images[..images.len() / 12 * 2], true);
    let answers = |outputs: [f32; 14]| Answers { outputs: outputs.to_vec(), ..Answers::default() };
    let a = answers([9.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let b = answers([9.0, 11.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 6.5]);
    let found = compare(&request, &a, &b);
    assert_eq!((found.images, found.predictions, found.differing, found.largest), (2, 1, 2, 3.0));
    assert_eq!((found.first, found.tapped[0]), (None, 0));
}

#[test]
fn either_order_of_axes_is_understood() {
    let shape = Shape::new(2, 1, 3);
    let values = [0, 1, 2, 3, 4, 5];
    assert_eq!(channels_first(&values, &[1, 2, 1, 3], shape), values);
    assert_eq!(channels_first(&values, &[1, 1, 3, 2], shape), [0, 2, 4, 1, 3, 5]);
    assert_eq!(channels_first(&values, &[1, 6], shape), values);
}

#[test]
fn an_interpreter_that_is_none_is_named() {
    let (network, bytes, images) = quantized(2);
    let request = request(&network, &bytes, &images, true);
    let text = onnx_runtime(&request, Path::new("no-such-python"), Level::Default).unwrap_err();
    assert!(text.starts_with("no-such-python: "), "{text}");
}

#[test]
fn onnx_runtime_answers_as_the_runtime_does() {
    let Some(python) = crate::onnx::tests::python::interpreter() else { return };
    for seed in 0..4 {
        let (network, bytes, images) = quantized(seed);
        let request = request(&network, &bytes, &images, true);
        let ours = reference(&request).unwrap();
        let engine = |request: &Request| onnx_runtime(request, &python, Level::Default);
        let found = check(&request, &ours, engine).unwrap();
        assert_eq!(found.tapped[0], found.tapped[1]);
        assert_eq!((found.largest, found.first, found.ops), (0.0, None, vec![]), "seed {seed}");
        assert_eq!(found.in_float, Some(vec![]), "seed {seed}: all in integer kernels");
    }
}

/// A file whose input are the stored integers, as converters from TensorFlow Lite write it.
#[test]
fn integers_are_fed_where_the_file_wants_them() {
    use prost::Message;
    use tract_onnx::pb::{ModelProto, type_proto::Value};

    for (seed, signed) in [(1, false), (2, true)] {
        let float = samples::network(seed, Sample { batch_norm: true, blocks: 3 });
        let images = samples::images(&float, 12, seed);
        let options = Options::per_channel(8, crate::calibrate::Width { bits: 8, signed });
        let network = quantize_network(&float, &images, &options).unwrap().network;
        let mut model = ModelProto::decode(&write_qdq(&network, &WriteOptions::default()).unwrap()[..]).unwrap();
        let graph = model.graph.as_mut().unwrap();
        let first = graph.node.iter().position(|node| node.input.first() == Some(&graph.input[0].name)).unwrap();
        let quantize = graph.node.remove(first);
        assert_eq!(quantize.op_type, "QuantizeLinear");
        graph.input[0].name.clone_from(&quantize.output[0]);
        if let Some(Value::TensorType(kind)) = graph.input[0].r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
            kind.elem_type = if signed { 3 } else { 2 };
        }
        let bytes = model.encode_to_vec();
        let network = read(&bytes, "sample", &ReadOptions::default()).unwrap().network;
        let request = request(&network, &bytes, &images, true);
        let ours = reference(&request).unwrap();
        let found = compare(&request, &ours, &tract(&request).unwrap());
        assert!(found.largest <= 4.0 && found.values == 84, "seed {seed}: {found:?}");
        let Some(python) = crate::onnx::tests::python::interpreter() else { continue };
        let found = compare(&request, &ours, &onnx_runtime(&request, &python, Level::Default).unwrap());
        assert_eq!((found.differing, found.first), (0, None), "seed {seed}");
    }
}
