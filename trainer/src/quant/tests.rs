//! Simulated weights against the exporter's integers; moving ranges.

use super::{QuantError, Ranges, Simulation, input_encoding, simulate};
use exporter::calibrate::{Clipping, Width};
use exporter::network::{Encoding, Network, Op, Preprocessing, Shape};
use exporter::quantize::{Scheme, Weights};
use proptest::prelude::*;

fn form(bits: u8, scheme: Scheme) -> Weights {
    Weights { bits, scheme, clipping: Clipping::MinMax }
}

proptest! {
    #[test]
    fn values_are_what_the_folded_integers_stand_for(
        weight in prop::collection::vec(-3.0f32..3.0, 24),
        factors in prop::collection::vec(prop_oneof![0.01f64..4.0, -4.0f64..-0.01], 4),
        bits in 2u8..=8,
        per_channel in any::<bool>(),
    ) {
        let scheme = if per_channel { Scheme::SymmetricPerChannel } else { Scheme::AsymmetricPerTensor };
        let found = simulate("w", &weight, &factors, form(bits, scheme)).unwrap();
        let encoding = &found.encoding;
        prop_assert_eq!(encoding.is_per_channel(), per_channel);
        let lowest = encoding.qmin() + i32::from(per_channel);
        for (i, &w) in weight.iter().enumerate() {
            let factor = factors[i / 6];
            let folded = (f64::from(w) * factor) as f32;
            let q = encoding.quantize(i / 6, folded);
            prop_assert!(q >= lowest, "the symmetric range never needs its lowest integer");
            let deployed = f64::from(encoding.dequantize(i / 6, q));
            let simulated = f64::from(found.values[i]) * factor;
            prop_assert!((simulated - deployed).abs() <= 1e-6 * deployed.abs(), "{simulated} {deployed}");
            // Within half a step, so that the gradient may pass; only rounding of the zero point can cut an end off.
            let (scale, _) = encoding.channel(i / 6);
            prop_assert!((simulated - f64::from(folded)).abs() <= 0.5001 * f64::from(scale) || found.mask[i] == 0.0);
        }
    }
}

#[test]
fn percentiles_cut_off_and_stop_the_gradient() {
    let mut weight: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0 - 0.5).collect();
    (weight[3], weight[700]) = (40.0, -30.0);
    let clipped = Weights { clipping: Clipping::PAPER, ..form(8, Scheme::AsymmetricPerTensor) };
    let found = simulate("w", &weight, &[1.0], clipped).unwrap();
    assert_eq!((found.mask[3], found.mask[700], found.mask[500]), (0.0, 0.0, 1.0));
    assert!(found.values[3] < 0.6 && found.values[700] > -0.6);
}

#[test]
fn a_channel_that_folding_removes_keeps_its_floats() {
    let weight = [0.3, -0.2, 0.7, 0.9];
    let found = simulate("w", &weight, &[0.0, 1.0], form(2, Scheme::AsymmetricPerTensor)).unwrap();
    assert_eq!(found.values[..2], weight[..2]);
    assert_eq!(found.mask, [1.0; 4]);
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    for bad in [f32::NAN, f32::INFINITY] {
        let error = simulate("conv.weight", &[1.0, bad], &[1.0], form(8, Scheme::AsymmetricPerTensor)).unwrap_err();
        assert_eq!(error, QuantError::NotFinite { name: "conv.weight".into() });
    }
}

fn network() -> Network {
    let preprocessing = Preprocessing { mean: vec![0.5, 0.2], std: vec![0.25, 0.5] };
    let mut network = Network::new("n", Shape::new(2, 4, 4), preprocessing, vec![]);
    let pool = network.push("pool", Op::GlobalAveragePool, &[0]).unwrap();
    network.push("sum", Op::Add, &[pool, pool]).unwrap();
    network
}

const UINT8: Width = Width { bits: 8, signed: false };

#[test]
fn the_input_holds_what_preprocessing_makes_of_pixels() {
    // (0 - 0.5) / 0.25 = -2, (1 - 0.5) / 0.25 = 2, (0 - 0.2) / 0.5 = -0.4, (1 - 0.2) / 0.5 = 1.6.
    assert_eq!(input_encoding(&network(), UINT8), Encoding::asymmetric(8, false, -2.0, 2.0));
}

#[test]
fn ranges_are_averaged_plainly_at_first_and_then_move_slowly() {
    let network = network();
    let mut ranges = Ranges::new(network.tensors.len());
    for batch in 1..=4 {
        ranges.begin_batch();
        ranges.observe(1, [-1.0, batch as f32], 0.1, &network).unwrap();
    }
    let (found, seen) = ranges.parts();
    assert_eq!((found[1], seen), (Some([-1.0, 2.5]), 4));
    for _ in 0..20 {
        ranges.begin_batch();
        ranges.observe(1, [-1.0, 2.5], 0.1, &network).unwrap();
    }
    ranges.begin_batch();
    ranges.observe(1, [-1.0, 12.5], 0.1, &network).unwrap();
    assert_eq!(ranges.parts().0[1], Some([-1.0, 3.5]));
}

#[test]
fn encodings_follow_the_exporters_rules() {
    let network = network();
    let mut ranges = Ranges::new(network.tensors.len());
    ranges.begin_batch();
    ranges.observe(2, [-1.0, 1.02], 0.1, &network).unwrap();
    let form = Simulation::tensorwise(8, 8);
    let plain = ranges.encoding(2, &Op::GlobalAveragePool, &form, &network).unwrap();
    assert_eq!(plain, Encoding::asymmetric(8, false, -1.0, 1.02));
    let sum = ranges.encoding(2, &Op::Add, &form, &network).unwrap();
    assert_eq!((sum.zero_point[0] % 2, &sum.scale), (0, &plain.scale));
    // Two bits, mostly negative: without a level for each sign nothing would be left behind a ReLU.
    ranges.begin_batch();
    ranges.observe(2, [-3.2, 0.3], 1.0, &network).unwrap();
    let [plain, signs] = [false, true].map(|both_signs| {
        let form = Simulation { both_signs, ..Simulation::tensorwise(2, 2) };
        ranges.encoding(2, &Op::GlobalAveragePool, &form, &network).unwrap()
    });
    assert_eq!((plain.zero_point[0], signs.zero_point[0]), (3, 2));
    assert!((plain.scale[0] - signs.scale[0]).abs() < 1e-6);
    let missing = ranges.encoding(1, &Op::GlobalAveragePool, &form, &network).unwrap_err();
    assert_eq!(missing, QuantError::NoRange { name: "pool_output".into() });
    let bad = ranges.observe(1, [f32::NAN, 1.0], 0.1, &network).unwrap_err();
    assert_eq!(bad, QuantError::NotFinite { name: "pool_output".into() });
}

#[test]
fn presets_are_the_exporters() {
    let (ours, theirs) = (Simulation::tensorwise(4, 8), exporter::pipeline::Options::mobile(4, 8));
    assert_eq!((ours.weights, ours.activations), (theirs.weights, theirs.activations));
    let theirs = exporter::pipeline::Options::per_channel(8, UINT8);
    assert_eq!(Simulation::channelwise(8, 8).weights, theirs.weights);
}
