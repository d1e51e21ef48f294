//! Op for op, does an engine compute what the runtime computes? Enters: a network, images, and every integer tensor that
//! the engine computed on them. Leaves: the elements that differ though all inputs of their op agree, with how far the exact
//! value lies from a tie. An op whose inputs differ already is not judged on that image.

use std::collections::HashMap;

use runtime::exec::Output;
use runtime::observe::Observer;
use runtime::{Image, Session};

use crate::image;
use crate::network::{Conv2d, Dense, Integers, Network, Op, Shape, TensorId};
use crate::samples;

/// For each tensor by name: all images one after the other, `C H W`.
pub(super) type Values = HashMap<String, Vec<i32>>;

/// What the runtime computes.
pub(super) fn runtime_values(network: &Network, pixels: &[u8]) -> Values {
    struct All<'n> {
        images: &'n HashMap<&'n str, Shape>,
        found: Values,
    }
    impl All<'_> {
        fn add(&mut self, output: Output) {
            let name = output.tensor().name();
            let shape = self.images[name];
            let chw = |i: usize| output.integer(i % shape.pixels() * shape.c + i / shape.pixels());
            self.found.entry(name.into()).or_default().extend((0..output.len()).map(chw));
        }
    }
    impl Observer for All<'_> {
        fn input(&mut self, input: Output) {
            self.add(input);
        }

        fn after(&mut self, _: &runtime::image::Op, output: Output) {
            self.add(output);
        }
    }
    let images = image_shapes(network);
    let images = network.tensors.iter().zip(images).map(|(tensor, shape)| (tensor.name.as_str(), shape)).collect();
    let file = image::write(network).unwrap();
    let image = Image::check(&file).unwrap();
    let mut arena = vec![0; image.arena_bytes()];
    let mut session = Session::new(image, &mut arena).unwrap();
    let mut all = All { images: &images, found: Values::new() };
    for pixels in pixels.chunks_exact(network.tensors[network.input].shape.len()) {
        session.run_pixels_observed(pixels, &mut all).unwrap();
    }
    all.found
}

/// Each tensor's shape; of a flattened image the image's, in whose order the runtime keeps it.
fn image_shapes(network: &Network) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = network.tensors.iter().map(|tensor| tensor.shape).collect();
    for node in &network.nodes {
        if matches!(node.op, Op::Flatten | Op::Clamp { .. } | Op::Function(_) | Op::Add | Op::Mul) {
            shapes[node.output] = shapes[node.inputs[0]];
        }
    }
    shapes
}

/// An element that differs.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) op: &'static str,
    pub(super) ours: i32,
    pub(super) theirs: i32,
    /// Distance of the exact result, in steps of the output, from the nearest tie.
    pub(super) from_tie: f64,
}

/// What a comparison has seen.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Elements of ops whose inputs agree, by operator.
    pub(super) elements: HashMap<&'static str, usize>,
    pub(super) differences: Vec<Difference>,
}

impl Comparison {
    /// Compares one network.
    pub(super) fn add(&mut self, network: &Network, ours: &Values, theirs: &Values) {
        let of = |values: &Values, id: TensorId, image: usize| -> Vec<i32> {
            let len = network.tensors[id].shape.len();
            values[&network.tensors[id].name][image * len..][..len].to_vec()
        };
        let images = ours[&network.tensors[network.input].name].len() / network.tensors[network.input].shape.len();
        for group in network.fused() {
            let head = &network.nodes[group.head];
            for image in 0..images {
                let inputs: Vec<Vec<i32>> = head.inputs.iter().map(|&id| of(ours, id, image)).collect();
                if head.inputs.iter().zip(&inputs).any(|(&id, input)| of(theirs, id, image) != *input) {
                    continue;
                }
                let (ours, theirs) = (of(ours, group.output, image), of(theirs, group.output, image));
                *self.elements.entry(head.op.name()).or_default() += ours.len();
                for (i, (&ours, &theirs)) in ours.iter().zip(&theirs).enumerate().filter(|(_, (a, b))| a != b) {
                    let exact = exact(network, group.head, &inputs, i) / f64::from(scale(network, group.output));
                    let from_tie = (exact - exact.floor() - 0.5).abs();
                    self.differences.push(Difference { op: head.op.name(), ours, theirs, from_tie });
                }
            }
        }
    }
}

fn scale(network: &Network, id: TensorId) -> f32 {
    network.tensors[id].encoding.as_ref().unwrap().scale[0]
}

/// The real value of element `i` of what a node computes from stored integers.
fn exact(network: &Network, node: usize, inputs: &[Vec<i32>], i: usize) -> f64 {
    let mut node = network.nodes[node].clone();
    let encoding = |id: TensorId| network.tensors[id].encoding.as_ref().unwrap();
    let real = |(&id, input): (&TensorId, &Vec<i32>)| -> Vec<f32> {
        input.iter().map(|&q| encoding(id).dequantize(0, q)).collect()
    };
    let values: Vec<Vec<f32>> = node.inputs.iter().zip(inputs).map(real).collect();
    let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    let scale = encoding(node.inputs[0]).scale[0];
    let mut weight = None;
    if let Op::Conv2d(Conv2d { bias, integers: Some(integers), .. })
    | Op::Dense(Dense { bias, integers: Some(integers), .. }) = &mut node.op
    {
        let Integers { encoding, weight: q, bias: stored } = integers;
        let row = q.len() / stored.len();
        let real = |(i, &q): (usize, &i16)| f64::from(encoding.dequantize(i / row, q.into()));
        weight = Some(q.iter().enumerate().map(real).collect::<Vec<f64>>());
        let real = |(k, &b): (usize, &i32)| b as f32 * (scale * encoding.channel(k).0);
        *bias = Some(stored.iter().enumerate().map(real).collect());
    }
    samples::reference(network, &node, weight.as_deref(), &values)[i]
}
