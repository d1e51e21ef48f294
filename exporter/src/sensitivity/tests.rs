//! Effects against their definition, the order of the steps, and the search.

use super::*;
use crate::calibrate::{Clipping, Ranges, Width, calibrate};
use crate::fold::fold;
use crate::quantize::{Scheme, Weights, quantize};
use crate::samples::{self, Sample};

const WEIGHTS: Weights = Weights { bits: 4, scheme: Scheme::SymmetricPerChannel, clipping: Clipping::MinMax };

fn calibrated(seed: u64) -> (Network, Vec<u8>) {
    let network = fold(&samples::network(seed, Sample { batch_norm: true, blocks: 4 })).unwrap();
    let images = samples::images(&network, 20, seed);
    let ranges = Ranges::Measured(Clipping::MinMax);
    (calibrate(network, &images, Width { bits: 8, signed: false }, ranges).unwrap(), images)
}

#[test]
fn effects_are_what_they_are_called() {
    let reference =
        Reference { logits: vec![1.0, 3.0, 0.0, 2.0, 1.0, 1.0], classes: 3, images: &[], labels: Some(&[1, 1]) };
    assert_eq!(reference.float().qmse, 0.0);
    let found = reference.compare(&[1.0, 3.5, 0.0, 0.0, 1.0, 0.0]);
    assert!((found.qmse - (0.25 + 4.0 + 1.0) / 6.0).abs() < 1e-12);
    assert_eq!((found.flips, found.correct), (1, Some(2)));
    // The entropy of a distribution with itself, by hand: softmax of (0, 0) is a half each.
    assert!((cross_entropy(&[5.0, 5.0], &[7.0, 7.0]) - 2f64.ln()).abs() < 1e-12);
    assert!((cross_entropy(&[100.0, 0.0], &[0.0, 3f32.ln()]) - 4f64.ln()).abs() < 1e-6);
}

#[test]
fn nothing_quantized_changes_nothing_and_all_of_it_is_the_simulation() {
    for seed in 0..10 {
        let (calibrated, images) = calibrated(seed);
        let quantized = quantize(calibrated, WEIGHTS).unwrap();
        let reference = Reference::new(&quantized, &images, None).unwrap();
        assert_eq!(reference.effect(&only(&quantized, None, None)).unwrap(), reference.float());
        let simulated = Executor::new(&quantized, Mode::Simulated).unwrap().logits(&images).unwrap();
        let partial = Executor::new(&quantized, Mode::Partial).unwrap().logits(&images).unwrap();
        assert_eq!(simulated, partial);
        assert!(reference.effect(&quantized).unwrap().qmse > 0.0);
    }
}

#[test]
fn every_part_is_listed_once_and_fewer_bits_hurt_more() {
    let mut worse = (0, 0);
    for seed in 0..10 {
        let (calibrated, images) = calibrated(seed);
        let labels: Vec<u16> = (0..20).map(|i| i % 7).collect();
        let at = |bits| {
            let quantized = quantize(calibrated.clone(), Weights { bits, ..WEIGHTS }).unwrap();
            let reference = Reference::new(&quantized, &images, Some(&labels)).unwrap();
            alone(&quantized, &reference, || {}).unwrap()
        };
        let (wide, narrow) = (at(8), at(2));
        let layers = |found: &[Sensitivity]| found.iter().filter(|s| s.weight_bits.is_some()).count();
        let expected = calibrated.nodes.iter().filter(|n| matches!(n.op, Op::Conv2d(_) | Op::Dense(_))).count();
        assert_eq!((layers(&wide), layers(&narrow)), (expected, expected));
        assert_eq!(wide[0].op, "input");
        for (a, b) in wide.iter().zip(&narrow) {
            assert_eq!(a.place, b.place);
            assert!(a.effect.correct.is_some());
            if a.weight_bits.is_some() {
                worse = (worse.0 + usize::from(b.effect.qmse > a.effect.qmse), worse.1 + 1);
            } else {
                assert_eq!(a.effect, b.effect, "{}: its weights are not there", a.place);
            }
        }
    }
    assert!(worse.0 * 10 >= worse.1 * 9, "2 bits hurt more than 8 in {} of {} layers", worse.0, worse.1);
}

#[test]
fn refuses_labels_that_do_not_fit() {
    let (calibrated, images) = calibrated(1);
    let text = Reference::new(&calibrated, &images, Some(&[1, 2])).err().unwrap().to_string();
    assert_eq!(text, "2 labels for 20 images");
}

#[test]
fn measures_every_layer_in_every_width() {
    let (calibrated, images) = calibrated(2);
    let reference = Reference::new(&calibrated, &images, None).unwrap();
    let widths = Widths::measure(&calibrated, vec![2, 8, 4, 8], WEIGHTS, &reference, || {}).unwrap();
    assert_eq!(widths.bits, [8, 4, 2]);
    for layer in &widths.layers {
        assert!(layer.bytes.is_sorted_by(|a, b| a >= b), "{layer:?}");
        assert!(layer.qmse[2] > layer.qmse[0], "{layer:?}");
    }
    let steps = widths.steps();
    assert_eq!(widths.after(&steps, 0), vec![8; widths.layers.len()]);
    assert_eq!(widths.after(&steps, steps.len()), vec![2; widths.layers.len()]);
}

/// What is nearly free and saves much comes first, what is dear comes last.
#[test]
fn steps_go_by_price() {
    let layer = |node: &str, qmse: [f64; 3], bytes: [u64; 3]| LayerWidths {
        node: node.into(),
        qmse: qmse.into(),
        bytes: bytes.into(),
    };
    let widths = Widths {
        bits: vec![8, 4, 2],
        layers: vec![
            layer("dear", [0.0, 5.0, 50.0], [100, 50, 25]),
            layer("large", [0.0, 0.5, 9.0], [1000, 500, 250]),
            // Four bits are worse than two here, so that it goes straight to two.
            layer("odd", [0.0, 3.0, 1.0], [400, 200, 100]),
        ],
    };
    let found: Vec<_> = widths.steps().into_iter().map(|step| (step.layer, step.width, step.bytes)).collect();
    assert_eq!(found, [(1, 1, 500), (2, 2, 300), (1, 2, 250), (0, 1, 50), (0, 2, 25)]);
    assert_eq!(widths.after(&widths.steps(), 2), [8, 4, 2]);
}

#[test]
fn finds_the_first_that_holds() {
    for most in 0..9 {
        for first in 0..=most {
            assert_eq!(first_that(most, |n| Ok::<_, ()>(n >= first)), Ok(Some(first)));
        }
        assert_eq!(first_that(most, |_| Ok::<_, ()>(false)), Ok(None));
    }
    assert_eq!(first_that(4, |_| Err("no")), Err("no"));
}
