//! What tract makes of our files.

use tract_onnx::prelude::*;

use super::{PRECISIONS, float, presets::preset_network};
use crate::execute::{Executor, Mode};
use crate::network::Network;
use crate::onnx::{Batch, Preset, WriteOptions, write_float, write_qdq};
use crate::samples::images;

/// What the input tensor of each image is: `N C H W`.
pub(super) fn floats(network: &Network, images: &[u8]) -> Vec<f32> {
    let shape = network.tensors[network.input].shape;
    let p = &network.preprocessing;
    let value =
        |image: &[u8], c: usize, pixel: usize| (f32::from(image[pixel * shape.c + c]) / 255.0 - p.mean[c]) / p.std[c];
    images
        .chunks_exact(shape.len())
        .flat_map(|image| (0..shape.len()).map(move |i| value(image, i / shape.pixels(), i % shape.pixels())))
        .collect()
}

/// Everything that the graph's output is, image after image.
pub(super) fn tract(bytes: &[u8], network: &Network, pixels: &[u8]) -> Vec<f32> {
    let model = tract_onnx::onnx().model_for_read(&mut &bytes[..]).unwrap();
    let model = model.into_optimized().unwrap().into_runnable().unwrap();
    let shape = network.tensors[network.input].shape;
    let images = pixels.len() / shape.len();
    let input = Tensor::from_shape(&[images, shape.c, shape.h, shape.w], &floats(network, pixels)).unwrap();
    let output = model.run(tvec!(input.into())).unwrap();
    output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

#[test]
fn tract_computes_the_float_network() {
    for seed in 0..20 {
        let network = float(seed);
        let pixels = images(&network, 3, seed);
        let expected = Executor::new(&network, Mode::Float).unwrap().logits(&pixels).unwrap();
        let bytes = write_float(&network, &WriteOptions { batch: Batch::Fixed(3), ..Default::default() }).unwrap();
        let found = tract(&bytes, &network, &pixels);
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(1.0f32, |a, b| a.max(b.abs()));
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-4 * largest, "seed {seed}: {a} and {b}");
        }
    }
}

/// tract runs convolutions between DequantizeLinear and QuantizeLinear in float and multiplies by 1 / scale: a value on a tie
/// may go either way, and what follows with it.
#[test]
fn tract_takes_packed_bytes_apart() {
    for preset in Preset::ALL {
        for bits in PRECISIONS {
            let (mut different, mut all) = (0, 0);
            for seed in 0..8 {
                let network = preset_network(seed, preset, bits);
                let pixels = images(&network, 8, seed + 1);
                let ours = super::agreement::runtime_values(&network, &pixels);
                let options = WriteOptions { batch: Batch::Fixed(8), preset: Some(preset), ..Default::default() };
                let theirs = tract(&write_qdq(&network, &options).unwrap(), &network, &pixels);
                let output = &network.tensors[network.output];
                let ours = &ours[&output.name];
                assert_eq!(ours.len(), theirs.len());
                let encoding = output.encoding.as_ref().unwrap();
                different += ours.iter().zip(&theirs).filter(|(a, b)| **a != encoding.quantize(0, **b)).count();
                all += ours.len();
            }
            println!("{} {bits:?}: {different} of {all} logits differ", preset.name());
            assert!(different * 50 <= all, "{} {bits:?}: {different} of {all} logits differ", preset.name());
        }
    }
}
