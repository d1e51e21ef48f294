//! After correction the means are those of the float network, and the outputs are nearer to it.

use super::*;
use crate::calibrate::{Clipping, Ranges, Width, calibrate};
use crate::fold::fold;
use crate::quantize::{Scheme, Weights, quantize};
use crate::samples::{self, Sample};

const WEIGHTS: Weights = Weights { bits: 3, scheme: Scheme::AsymmetricPerTensor, clipping: Clipping::MinMax };

fn quantized(seed: u64) -> (Network, Network, Vec<u8>) {
    let network = fold(&samples::network(seed, Sample { batch_norm: true, blocks: 4 })).unwrap();
    let images = samples::images(&network, 30, seed);
    let width = Width { bits: 8, signed: false };
    let calibrated = calibrate(network, &images, width, Ranges::Measured(Clipping::MinMax)).unwrap();
    (calibrated.clone(), quantize(calibrated, WEIGHTS).unwrap(), images)
}

/// Mean over channels of the distance between float and simulated mean of the output.
fn mean_error(float: &Network, quantized: &Network, images: &[u8]) -> f64 {
    let last = [float.nodes.len() - 1];
    let of = |network, mode| means(&Executor::new(network, mode).unwrap(), images, &last).unwrap().remove(0);
    let (a, b) = (of(float, Mode::Float), of(quantized, Mode::Simulated));
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64
}

#[test]
fn lowers_the_mean_error_of_the_outputs() {
    let (mut better, mut total) = (0, 0);
    for seed in 0..12 {
        let (float, simulated, images) = quantized(seed);
        let before = mean_error(&float, &simulated, &images);
        let (corrected, corrections) = correct(simulated, &images, || {}).unwrap();
        let after = mean_error(&float, &corrected, &images);
        // What is left is the rounding and clipping of the output itself.
        let output = corrected.tensors[corrected.output].encoding.as_ref().unwrap().scale[0];
        assert!(after <= 0.5 * before || after < f64::from(output), "seed {seed}: {after} after {before}");
        assert!(corrections.iter().any(|correction| correction.largest > 0.0));
        (better, total) = (better + usize::from(after < 0.5 * before), total + 1);
    }
    assert!(better * 4 >= total * 3, "{better} of {total} are better by half");
}

/// Layers with a fused clamp are compared in front of it: there the mean is exact after correction.
#[test]
fn every_layer_has_the_mean_of_the_float_network() {
    let (float, simulated, images) = quantized(2);
    let (corrected, _) = correct(simulated, &images, || {}).unwrap();
    let mut seen = 0;
    for group in float.fused().into_iter().filter(|group| group.clamp.is_some()) {
        if !matches!(float.nodes[group.head].op, Op::Conv2d(_) | Op::Dense(_)) {
            continue;
        }
        let of =
            |network, mode| means(&Executor::new(network, mode).unwrap(), &images, &[group.head]).unwrap().remove(0);
        for (a, b) in of(&float, Mode::Float).into_iter().zip(of(&corrected, Mode::Simulated)) {
            assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{a} and {b}");
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn does_not_depend_on_threads() {
    let (_, simulated, images) = quantized(4);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| correct(simulated.clone(), &images, || {}).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn refuses_what_is_not_quantized() {
    let (float, _, images) = quantized(1);
    let text = correct(float, &images, || {}).unwrap_err().to_string();
    assert!(text.contains("quantize the network before"), "{text}");
}
