//! The error of each layer never grows, and the outputs come nearer to the float network's.

use super::*;
use crate::calibrate::{Clipping, Ranges, Width, calibrate};
use crate::correct::correct;
use crate::fold::fold;
use crate::quantize::{Scheme, Weights, quantize};
use crate::samples::{self, Random, Sample};
use proptest::prelude::*;

fn quantized(seed: u64, bits: u8, scheme: Scheme) -> (Network, Network, Vec<u8>) {
    let network = fold(&samples::network(seed, Sample { batch_norm: true, blocks: 4 })).unwrap();
    let images = samples::images(&network, 40, seed);
    let ranges = Ranges::Measured(Clipping::MinMax);
    let calibrated = calibrate(network, &images, Width { bits: 8, signed: false }, ranges).unwrap();
    let weights = Weights { bits, scheme, clipping: Clipping::MinMax };
    (calibrated.clone(), quantize(calibrated, weights).unwrap(), images)
}

/// Mean squared distance of the outputs.
fn distance(float: &Network, simulated: &Network, images: &[u8]) -> f64 {
    let a = Executor::new(float, Mode::Float).unwrap().logits(images).unwrap();
    let b = Executor::new(simulated, Mode::Simulated).unwrap().logits(images).unwrap();
    a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / a.len() as f64
}

#[test]
fn layers_err_less_and_so_do_the_outputs() {
    let (mut gain, mut moved) = (0.0, 0);
    for seed in 0..12 {
        let scheme = [Scheme::SymmetricPerChannel, Scheme::AsymmetricPerTensor][seed as usize % 2];
        let (float, simulated, images) = quantized(seed, 3, scheme);
        let (rounded, roundings) = compensate(simulated.clone(), &images, false, || {}).unwrap();
        for rounding in &roundings {
            let [before, after] = rounding.error;
            assert!(after <= before * (1.0 + 1e-9), "seed {seed}: {rounding:?}");
        }
        moved += usize::from(roundings.iter().any(|rounding| rounding.moved > Some(0)));
        gain += (distance(&float, &rounded, &images) / distance(&float, &simulated, &images)).ln();
    }
    // On average to less than half.
    assert!(gain / 12.0 < 0.5f64.ln(), "{}", (gain / 12.0).exp());
    assert!(moved >= 10, "weights move in {moved} of 12 networks");
}

#[test]
fn integers_stay_on_their_grid_and_encodings_as_they_are() {
    for bits in [2, 4, 8] {
        let (_, simulated, images) = quantized(3, bits, Scheme::SymmetricPerChannel);
        let (rounded, _) = compensate(simulated.clone(), &images, true, || {}).unwrap();
        for (a, b) in simulated.nodes.iter().zip(&rounded.nodes) {
            let (Op::Conv2d(Conv2d { integers: Some(a), .. }), Op::Conv2d(Conv2d { integers: Some(b), .. })) =
                (&a.op, &b.op)
            else {
                continue;
            };
            assert_eq!((&a.encoding, &a.bias), (&b.encoding, &b.bias));
            let most = (1 << (bits - 1)) - 1;
            assert!(b.weight.iter().all(|w| (-most..=most).contains(w)));
        }
    }
}

/// What is corrected afterwards need not be kept small here, and both together are better than correction alone.
#[test]
fn goes_together_with_bias_correction() {
    let mut better = 0;
    for seed in 0..8 {
        let (float, simulated, images) = quantized(seed, 3, Scheme::SymmetricPerChannel);
        let alone = correct(simulated.clone(), &images, || {}).unwrap().0;
        let rounded = compensate(simulated, &images, true, || {}).unwrap().0;
        let both = correct(rounded, &images, || {}).unwrap().0;
        better += usize::from(distance(&float, &both, &images) < distance(&float, &alone, &images));
    }
    assert!(better >= 6, "{better} of 8");
}

#[test]
fn does_not_depend_on_threads() {
    let (_, simulated, images) = quantized(4, 4, Scheme::AsymmetricPerTensor);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| compensate(simulated.clone(), &images, true, || {}).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn refuses_what_is_not_quantized() {
    let (float, _, images) = quantized(1, 4, Scheme::AsymmetricPerTensor);
    let text = compensate(float, &images, false, || {}).unwrap_err().to_string();
    assert!(text.contains("quantize the network before"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No single weight can be moved to lower the error: checked by brute force, with moments of random inputs.
    #[test]
    fn ends_where_no_weight_helps(seed: u64, taps in 1usize..9, bits in 2u8..6) {
        let mut random = Random::new(seed);
        let weight = random.values(taps, -1.0, 1.0);
        let inputs: Vec<Vec<f32>> = (0..12).map(|_| random.values(taps, -0.3, 1.0)).collect();
        let matrix: Vec<f64> = (0..taps * taps)
            .map(|i| inputs.iter().map(|x| f64::from(x[i / taps]) * f64::from(x[i % taps])).sum())
            .collect();
        let encoding = Encoding::asymmetric(bits, false, -1.0, 1.0);
        let mut stored: Vec<i16> = weight.iter().map(|&w| encoding.quantize(0, w) as i16).collect();
        let cost = |stored: &[i16]| -> f64 {
            let e: Vec<f64> = stored.iter().zip(&weight)
                .map(|(&q, &w)| f64::from(q as i32 - encoding.zero_point[0]) * f64::from(encoding.scale[0]) - f64::from(w))
                .collect();
            (0..taps * taps).map(|i| matrix[i] * e[i / taps] * e[i % taps]).sum()
        };
        let before = cost(&stored);
        let (_, error) = descend(&weight, &mut stored, &encoding, 0, encoding.qmin(), &matrix);
        let after = cost(&stored);
        prop_assert!((error[0] - before).abs() < 1e-9 && (error[1] - after).abs() < 1e-9);
        for i in 0..taps {
            for q in encoding.qmin()..=encoding.qmax() {
                let mut other = stored.clone();
                other[i] = q as i16;
                prop_assert!(cost(&other) >= after - 1e-9 * before.max(1.0));
            }
        }
    }
}
