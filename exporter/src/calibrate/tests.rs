//! Ranges against the values themselves, the rules between tensors, and what is refused.

use super::*;
use crate::execute::{Executor, Mode};
use crate::fold::fold;
use crate::network::{Preprocessing, Shape, Window};
use crate::samples::{self, Random, Sample};
use proptest::prelude::*;

const U8: Width = Width { bits: 8, signed: false };
const MIN_MAX: Ranges = Ranges::Measured(Clipping::MinMax);

fn sample(seed: u64) -> (Network, Vec<u8>) {
    let network = fold(&samples::network(seed, Sample { batch_norm: true, blocks: 4 })).unwrap();
    let images = samples::images(&network, 20, seed);
    (network, images)
}

/// All values of a tensor on all images, sorted.
fn values(network: &Network, images: &[u8], id: TensorId) -> Vec<f32> {
    let executor = Executor::new(network, Mode::Float).unwrap();
    let mut workspace = executor.workspace();
    let mut values = Vec::new();
    for image in images.chunks_exact(network.tensors[network.input].shape.len()) {
        executor.run(image, &mut workspace).unwrap();
        values.extend_from_slice(workspace.tensor(id));
    }
    values.sort_by(f32::total_cmp);
    values
}

/// Integer tensors whose encoding is the range's and nothing else's.
fn plain(network: &Network) -> Vec<TensorId> {
    let is_moved = |id: &TensorId| {
        let group = network.fused().into_iter().find(|group| group.output == *id);
        group.is_some_and(|group| matches!(network.nodes[group.head].op, Op::Add | Op::AveragePool(_)))
    };
    own_encodings(network).filter(|id| *id != network.input && !is_moved(id)).collect()
}

#[test]
fn minimum_and_maximum_are_those_of_the_values() {
    for seed in 0..10 {
        let (network, images) = sample(seed);
        let calibrated = calibrate(network.clone(), &images, U8, MIN_MAX).unwrap();
        for id in plain(&network) {
            let values = values(&network, &images, id);
            let expected = Encoding::asymmetric(8, false, values[0], values[values.len() - 1]);
            assert_eq!(calibrated.tensors[id].encoding.as_ref(), Some(&expected), "{}", network.tensors[id].name);
        }
        let integer = network.integer_tensors();
        for (id, tensor) in calibrated.tensors.iter().enumerate() {
            assert_eq!(tensor.encoding.is_some(), integer.contains(&id), "{}", tensor.name);
        }
    }
}

#[test]
fn percentiles_are_exact_to_a_bin() {
    for seed in 0..10 {
        let (network, images) = sample(seed);
        let found =
            measure::ranges(&network, &images, Clipping::Percentile { low: 3.0, high: 95.0 }, U8.grid()).unwrap();
        for id in plain(&network) {
            let values = values(&network, &images, id);
            let (min, max) = (values[0], values[values.len() - 1]);
            let bin = 1.001 * (max - min) / 16384.0;
            let (low, high) = found[id].unwrap();
            let rank = |percent: usize| values[(values.len() * percent / 100).min(values.len() - 1)];
            // Between the neighbours of the exact rank, give or take a bin.
            let near = |found: f32, percent: usize| {
                let at = values.len() * percent / 100;
                let (below, above) = (values[at.saturating_sub(1)], values[(at + 1).min(values.len() - 1)]);
                (below - bin..=above + bin).contains(&found)
            };
            assert!(near(low, 3) && near(high, 95), "{low} {high}, not {} {}", rank(3), rank(95));
        }
    }
}

#[test]
fn the_input_holds_what_preprocessing_makes() {
    let (network, images) = sample(4);
    let calibrated = calibrate(network.clone(), &images, U8, MIN_MAX).unwrap();
    let e = calibrated.tensors[network.input].encoding.as_ref().unwrap();
    let channels = 0..network.tensors[network.input].shape.c;
    let all: Vec<f32> =
        channels.flat_map(|c| (0..=255).map(move |p| (c, p))).map(|(c, p)| network.preprocessing.value(c, p)).collect();
    let (min, max) = all.iter().fold((0.0f32, 0.0f32), |(min, max), &x| (min.min(x), max.max(x)));
    assert_eq!(e, &Encoding::asymmetric(8, false, min, max));
    // Nothing is cut off: every pixel is within half a step.
    assert!(all.iter().all(|&x| (e.fake(0, x) - x).abs() <= 0.501 * e.scale[0]));
}

#[test]
fn rules_hold_for_every_method() {
    for seed in 0..30 {
        let (network, images) = sample(seed);
        for width in
            [U8, Width { bits: 8, signed: true }, Width { bits: 4, signed: false }, Width { bits: 2, signed: true }]
        {
            for clipping in [Clipping::MinMax, Clipping::PAPER, Clipping::Mse, Clipping::Entropy] {
                let network = calibrate(network.clone(), &images, width, Ranges::Measured(clipping)).unwrap();
                network.check().unwrap();
                for group in network.fused() {
                    let head = &network.nodes[group.head];
                    let e = network.tensors[group.output].encoding.as_ref().unwrap();
                    if head.op.keeps_encoding() {
                        assert_eq!(Some(e), network.tensors[head.inputs[0]].encoding.as_ref(), "{}", head.name);
                    } else if matches!(head.op, Op::Add) {
                        assert_eq!(e.zero_point[0] % 2, 0, "{}", head.name);
                    }
                    let clamp = group.clamp.map(|id| &network.nodes[id].op);
                    if clamp == Some(&Op::RELU) {
                        assert_eq!(e.zero_point[0], e.qmin(), "{}", head.name);
                    }
                }
            }
        }
    }
}

#[test]
fn ranges_do_not_depend_on_threads() {
    let (network, images) = sample(2);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| calibrate(network.clone(), &images, U8, Ranges::Measured(Clipping::PAPER)).unwrap())
    };
    assert_eq!(run(1), run(3));
}

/// Results of Adds and AveragePools that lie on a tie, or as near to one as engines err (4.3e-6 steps, found), over all that
/// their inputs can hold.
fn ties(network: &Network) -> usize {
    let encoding = |id: TensorId| network.tensors[id].encoding.as_ref().unwrap();
    let count = |group: &crate::network::Fused| {
        let head = &network.nodes[group.head];
        let inputs: Vec<&Encoding> = head.inputs.iter().map(|&id| encoding(id)).collect();
        super::ties::count(&head.op, &inputs, encoding(group.output), 1e-5)
    };
    network.fused().iter().map(count).sum()
}

/// Scales as training may leave them: simple multiples of each other, with which sums and means lie on ties.
#[test]
fn trained_scales_leave_their_ties() {
    let mut before = 0;
    for seed in 0..16 {
        let (network, images) = sample(seed);
        let mut trained = calibrate(network, &images, U8, MIN_MAX).unwrap();
        for group in trained.fused() {
            let sum = trained.nodes[group.head].op == Op::Add;
            trained.tensors[group.output].encoding.as_mut().unwrap().scale[0] = if sum { 0.1 } else { 0.05 };
        }
        trained.tensors[trained.input].encoding.as_mut().unwrap().scale[0] = 0.05;
        before += ties(&trained);
        let exported = calibrate(trained.clone(), &[], U8, Ranges::Trained).unwrap();
        assert_eq!(ties(&exported), 0, "seed {seed}");
        for (old, new) in trained.tensors.iter().zip(&exported.tensors) {
            let (Some(old), Some(new)) = (&old.encoding, &new.encoding) else { continue };
            assert!((new.scale[0] / old.scale[0] - 1.0).abs() < 0.004 && new.zero_point == old.zero_point);
        }
        assert_eq!(calibrate(exported.clone(), &[], U8, Ranges::Trained).unwrap(), exported, "once is enough");
    }
    assert!(before > 10_000, "{before} on ties");
}

#[test]
fn trained_encodings_are_kept() {
    let (network, images) = sample(6);
    assert!(!is_trained(&network));
    let mut trained = calibrate(network, &images, U8, MIN_MAX).unwrap();
    assert!(is_trained(&trained));
    let own = plain(&trained);
    for &id in &own {
        trained.tensors[id].encoding.as_mut().unwrap().scale[0] *= 1.25;
    }
    let kept = calibrate(trained.clone(), &[], U8, Ranges::Trained).unwrap();
    for &id in &own {
        assert_eq!(kept.tensors[id], trained.tensors[id]);
    }
    let signed = calibrate(trained.clone(), &[], Width { bits: 8, signed: true }, Ranges::Trained).unwrap();
    for &id in &own {
        let [before, after] = [&trained, &signed].map(|n| n.tensors[id].encoding.as_ref().unwrap());
        assert!(after.signed && [0, 77, 255].iter().all(|&q| before.dequantize(0, q) == after.dequantize(0, q - 128)));
    }
    let text =
        calibrate(trained.clone(), &[], Width { bits: 4, signed: false }, Ranges::Trained).unwrap_err().to_string();
    assert!(text.contains("`input` was trained as uint8, expected uint4"), "{text}");
    trained.tensors[own[0]].encoding = None;
    let text = calibrate(trained.clone(), &[], U8, Ranges::Trained).unwrap_err().to_string();
    assert!(text.contains(&format!("`{}` has no trained encoding", trained.tensors[own[0]].name)), "{text}");
}

#[test]
fn refuses_activations_that_are_not_finite() {
    let preprocessing = Preprocessing { mean: vec![0.0], std: vec![1.0] };
    let mut network = Network::new("n", Shape::new(1, 2, 2), preprocessing, Vec::new());
    let mut conv = samples::conv(&mut Random::new(1), Shape::new(1, 2, 2), 1, 1, Window::square(2, 1, 0));
    let Op::Conv2d(parameters) = &mut conv else { unreachable!() };
    (parameters.weight, parameters.bias) = (vec![f32::MAX; 4], None);
    network.push("large", conv, &[0]).unwrap();
    // The sum of four is too large, one is not; of the two images that fail, the first is named.
    let mut images = vec![0; 40 * 4];
    images[4 * 3] = 255;
    images[4 * 30..].fill(255);
    let text = calibrate(network, &images, U8, MIN_MAX).unwrap_err().to_string();
    assert_eq!(text, "tensor `large_output` is inf on image 30: ranges need finite activations");
}

#[test]
fn refuses_widths_and_percentiles_that_are_none() {
    let (network, images) = sample(1);
    for bits in [0, 1, 9] {
        let error = calibrate(network.clone(), &images, Width { bits, signed: false }, MIN_MAX).unwrap_err();
        assert!(matches!(error, CalibrateError::Parameter(_)), "{error}");
    }
    for (low, high) in [(-1.0, 99.0), (50.0, 50.0), (60.0, 40.0), (0.0, 100.5), (f64::NAN, 99.0), (1.0, f64::NAN)] {
        let clipping = Clipping::Percentile { low, high };
        let error = calibrate(network.clone(), &images, U8, Ranges::Measured(clipping)).unwrap_err();
        assert!(matches!(error, CalibrateError::Parameter(_)), "{error}");
        assert!(percentile(&[1.0, 2.0], clipping).is_err());
    }
    assert!(calibrate(network, &[], U8, MIN_MAX).is_err(), "no images");
}

/// Mean squared error of values that go through an encoding, by its own definition.
fn squared_error(values: &[f32], grid: Grid, range: Range) -> f64 {
    let encoding = grid.encode(range);
    let lowest = grid.lowest(&encoding);
    let error = |x: f32| f64::from(encoding.dequantize(0, encoding.quantize(0, x).max(lowest)) - x);
    values.iter().map(|&x| error(x).powi(2)).sum::<f64>() / values.len() as f64
}

fn any_grid() -> impl Strategy<Value = Grid> {
    (2u8..=8, any::<bool>(), any::<bool>()).prop_map(|(bits, signed, symmetric)| Grid { bits, signed, symmetric })
}

/// A bell from the sum of twelve uniform numbers, and one value far out.
fn bell_with_outlier(outlier: f32) -> Vec<f32> {
    let mut random = Random::new(11);
    let mut values: Vec<f32> = (0..4000).map(|_| (0..12).map(|_| random.uniform(-0.5, 0.5)).sum()).collect();
    values.push(outlier);
    values
}

#[test]
fn searches_cut_off_what_costs_more_than_it_gives() {
    let values = bell_with_outlier(12.0);
    for symmetric in [false, true] {
        let grid = Grid { bits: 4, signed: symmetric, symmetric };
        let of = |clipping| range(&values, clipping, grid).unwrap();
        let (whole, mse, entropy) = (of(Clipping::MinMax), of(Clipping::Mse), of(Clipping::Entropy));
        assert_eq!(whole.1, 12.0);
        assert!((2.0..9.0).contains(&mse.1) && (1.5..9.0).contains(&entropy.1), "{mse:?} {entropy:?}");
        let error = |range| squared_error(&values, grid, range);
        // Cut off at 4, the outlier costs 8^2 / 4001; a step of 1 or more costs a twelfth on all the others.
        assert!(error(mse) < 0.6 * error(whole), "{} {}", error(mse), error(whole));
    }
}

#[test]
fn searches_keep_what_is_spread_evenly() {
    let mut random = Random::new(12);
    let values = random.values(5000, -1.0, 3.0);
    let grid = Grid { bits: 8, signed: false, symmetric: false };
    for clipping in [Clipping::Mse, Clipping::Entropy] {
        let (low, high) = range(&values, clipping, grid).unwrap();
        assert!(low < -0.95 && high > 2.9, "{clipping}: {low} {high}");
    }
}

/// The histogram is fine enough that what is best on it is better on the values too.
#[test]
fn ranges_of_activations_err_less_by_squared_error() {
    let mut gained = 0;
    for seed in 0..10 {
        let (network, images) = sample(seed);
        for grid in [
            Grid { bits: 4, signed: false, symmetric: false },
            Grid { bits: 2, signed: true, symmetric: false },
            Grid { bits: 5, signed: true, symmetric: true },
        ] {
            let of = |clipping| measure::ranges(&network, &images, clipping, grid).unwrap();
            let (whole, mse) = (of(Clipping::MinMax), of(Clipping::Mse));
            for id in plain(&network) {
                let values = values(&network, &images, id);
                let error = |range: &[Option<Range>]| squared_error(&values, grid, range[id].unwrap());
                let (before, after) = (error(&whole), error(&mse));
                assert!(after <= 1.01 * before, "seed {seed}, {grid:?}, {id}: {after} after {before}");
                gained += usize::from(after < 0.9 * before);
            }
        }
    }
    assert!(gained > 50, "{gained} ranges only are better by a tenth");
}

#[test]
fn symmetric_encodings_have_as_many_steps_on_either_side() {
    for (signed, zero) in [(true, 0), (false, 8)] {
        let grid = Grid { bits: 4, signed, symmetric: true };
        let e = grid.encode((-0.5, 1.4));
        assert_eq!((e.scale[0], e.zero_point[0], grid.lowest(&e)), (0.2, zero, zero - 7));
        assert_eq!((e.quantize(0, 1.4), e.quantize(0, -1.4)), (zero + 7, zero - 7));
        assert_eq!(grid.encode((0.0, 0.0)).scale, [1.0]);
    }
}

#[test]
fn activations_can_be_symmetric() {
    let (network, images) = sample(3);
    let grid = Grid { bits: 8, signed: true, symmetric: true };
    let calibrated = calibrate_to(network, &images, grid, MIN_MAX).unwrap();
    for id in calibrated.integer_tensors() {
        assert_eq!(calibrated.tensors[id].encoding.as_ref().unwrap().zero_point, [0]);
    }
}

#[test]
fn percentiles_of_a_list_lie_between_neighbours() {
    let values = [4.0, 1.0, 3.0, 2.0, 5.0];
    let of = |low, high| percentile(&values, Clipping::Percentile { low, high }).unwrap();
    assert_eq!(of(0.0, 100.0), (1.0, 5.0));
    assert_eq!(of(25.0, 62.5), (2.0, 3.5));
    assert_eq!(percentile(&values, Clipping::MinMax).unwrap(), (1.0, 5.0));
    for clipping in [Clipping::MinMax, Clipping::PAPER, Clipping::Mse, Clipping::Entropy] {
        assert_eq!(range(&[], clipping, U8.grid()).unwrap(), (0.0, 0.0));
        assert_eq!(range(&[0.0; 3], clipping, U8.grid()).unwrap(), (0.0, 0.0));
    }
    assert!(percentile(&values, Clipping::Mse).is_err());
    assert!(range(&values, Clipping::Mse, Grid { bits: 9, ..U8.grid() }).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Of weights, value for value; and no range reaches beyond the values.
    #[test]
    fn least_squared_error_is_no_more_than_that_of_min_max(
        grid in any_grid(), values in proptest::collection::vec(-4f32..4.0, 1..80), scale in 1e-3f32..1e3, power in 1..4,
    ) {
        let values: Vec<f32> = values.iter().map(|x| x.powi(power) * scale).collect();
        let of = |clipping| range(&values, clipping, grid).unwrap();
        let (whole, mse) = (of(Clipping::MinMax), of(Clipping::Mse));
        let (before, after) = (squared_error(&values, grid, whole), squared_error(&values, grid, mse));
        prop_assert!(after <= before * (1.0 + 1e-9), "{after} after {before}");
        for clipping in [Clipping::Mse, Clipping::Entropy, Clipping::PAPER] {
            let (low, high) = of(clipping);
            prop_assert!(whole.0 <= low && low <= high && high <= whole.1, "{clipping}: {low} {high} of {whole:?}");
        }
    }

    /// By one step at most, within the limits, and no value that both ranges hold is rounded otherwise.
    #[test]
    fn an_even_zero_point_moves_the_range_and_not_the_grid(
        bits in 2u8..=8, signed: bool, zero in 0i32..256, scale in 1e-6f32..1e3, steps in -300f32..300.0,
    ) {
        let mut e = Encoding::per_tensor(bits, signed, scale, 0);
        e.zero_point[0] = (e.qmin() + zero).min(e.qmax());
        let before = e.clone();
        even_zero_point(&mut e);
        prop_assert!(e.zero_point[0] % 2 == 0 && (e.qmin()..=e.qmax()).contains(&e.zero_point[0]));
        prop_assert!((e.zero_point[0] - before.zero_point[0]).abs() <= 1);
        let inside = |e: &Encoding, x: f32| (e.qmin() + 1..e.qmax()).contains(&e.quantize(0, x));
        let x = steps * scale;
        if inside(&before, x) && inside(&e, x) {
            prop_assert_eq!(before.fake(0, x), e.fake(0, x));
        }
    }
}
