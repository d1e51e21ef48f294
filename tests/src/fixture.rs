//! Files that tests need: a small network of ten classes with random weights, as a checkpoint, an ONNX file and a flash
//! image, made once a process by the crates under test; folders of pictures; an ONNX file that nobody supports. Enters:
//! nothing. Leaves: paths. Refuses nothing.

use crate::command::intact;
use exporter::network::{BatchNorm, Conv2d, Dense, Network, Op, Preprocessing, Shape, Window};
use prost::Message;
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;
use tract_onnx::pb;

/// The folder that the files below lie in.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder")).path()
}

/// A float checkpoint of [`network`].
pub fn checkpoint() -> String {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = folder().join("small.safetensors");
        exporter::checkpoint::save(&path, &network(), &Default::default()).expect("a checkpoint can be written");
        path.to_string_lossy().into_owned()
    })
    .clone()
}

/// The flash image of [`network`], as the command line exports it.
pub fn image() -> String {
    exported("intact")
}

/// The int8 ONNX file of [`network`], as the command line exports it.
pub fn onnx() -> String {
    exported("onnx")
}

fn exported(extension: &str) -> String {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        intact(&["export", &checkpoint(), "--out", &folder().to_string_lossy(), "--calibration-images", "64"])
            .expect(0);
    });
    folder().join(format!("small.{extension}")).to_string_lossy().into_owned()
}

/// Two convolutions with BatchNorm, one of them depthwise, a residual sum, pooling and a dense layer, on shapes10.
pub fn network() -> Network {
    let mut random = Random(1);
    let classes = exporter::data::open("shapes10", exporter::data::Split::Test, &exporter::data::Options::default())
        .expect("shapes10 is drawn")
        .classes()
        .to_vec();
    let preprocessing = Preprocessing { mean: vec![0.5; 3], std: vec![0.25; 3] };
    let mut net = Network::new("small", Shape::new(3, 32, 32), preprocessing, classes);
    let add = |net: &mut Network, name: &str, op, inputs: &[usize]| {
        net.push(name, op, inputs).expect("the fixture is a network")
    };
    let conv = |random: &mut Random, c: usize, k: usize, size, stride, groups| {
        let window = Window::square(size, stride, size / 2);
        let weight = random.values(k * (c / groups) * size * size, 0.5);
        Op::Conv2d(Conv2d { weight, bias: None, out_channels: k, window, groups, integers: None })
    };
    let norm = |random: &mut Random, c: usize| {
        Op::BatchNorm(BatchNorm {
            gamma: random.values(c, 0.3).into_iter().map(|v| 1.0 + v).collect(),
            beta: random.values(c, 0.3),
            mean: random.values(c, 0.3),
            variance: random.values(c, 0.3).into_iter().map(|v| 1.0 + v).collect(),
            epsilon: 1e-5,
        })
    };
    let mut x = add(&mut net, "stem", conv(&mut random, 3, 8, 3, 2, 1), &[0]);
    x = add(&mut net, "stem_norm", norm(&mut random, 8), &[x]);
    x = add(&mut net, "stem_relu", Op::RELU, &[x]);
    let skip = x;
    x = add(&mut net, "depthwise", conv(&mut random, 8, 8, 3, 1, 8), &[x]);
    x = add(&mut net, "depthwise_norm", norm(&mut random, 8), &[x]);
    x = add(&mut net, "sum", Op::Add, &[x, skip]);
    x = add(&mut net, "sum_relu", Op::RELU, &[x]);
    x = add(&mut net, "pool", Op::MaxPool(exporter::network::Pool { window: Window::square(2, 2, 0) }), &[x]);
    x = add(&mut net, "mean", Op::GlobalAveragePool, &[x]);
    let dense =
        Dense { weight: random.values(80, 1.0), bias: Some(random.values(10, 0.5)), out_features: 10, integers: None };
    add(&mut net, "classifier", Op::Dense(dense), &[x]);
    net
}

/// A folder with `train/` and `test/`, each with classes `cat` and `dog` of `count` small pictures.
///
/// # Panics
/// If the disk cannot be written.
pub fn class_folders(count: u8) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (part, class) in [("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")] {
        let folder = folder.path().join(part).join(class);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        for i in 0..count {
            let picture = image::RgbImage::from_fn(20, 24, |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, i * 50]));
            picture.save(folder.join(format!("{i}.png"))).expect("a picture can be written");
        }
    }
    folder
}

/// A well-formed ONNX file with two ops that no part of the project supports, and one that it does.
pub fn onnx_with_unsupported_ops() -> Vec<u8> {
    let node = |name: &str, op: &str, input: &str, output: &str| pb::NodeProto {
        name: name.into(),
        op_type: op.into(),
        input: vec![input.into()],
        output: vec![output.into()],
        ..Default::default()
    };
    let value = |name: &str| {
        let dim = |n: i64| pb::tensor_shape_proto::Dimension {
            value: Some(pb::tensor_shape_proto::dimension::Value::DimValue(n)),
            ..Default::default()
        };
        let shape = pb::TensorShapeProto { dim: [1, 3, 8, 8].map(dim).to_vec() };
        let tensor = pb::type_proto::Tensor { elem_type: 1, shape: Some(shape) };
        let r#type = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
        pb::ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
    };
    let graph = pb::GraphProto {
        name: "exotic".into(),
        node: vec![
            node("first_exotic", "Einsum", "x", "a"),
            node("plain", "Relu", "a", "b"),
            node("second_exotic", "Det", "b", "y"),
        ],
        input: vec![value("x")],
        output: vec![value("y")],
        ..Default::default()
    };
    let opset = pb::OperatorSetIdProto { domain: String::new(), version: 17 };
    pb::ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() }
        .encode_to_vec()
}

/// A small generator (splitmix64): fixtures need variety, not quality.
struct Random(u64);

impl Random {
    /// `count` values in `-limit..limit`.
    fn values(&mut self, count: usize, limit: f32) -> Vec<f32> {
        (0..count).map(|_| (self.next() * 2.0 - 1.0) * limit).collect()
    }

    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32
    }
}
