//! Figures of many networks: against those measured with the reference generator, and what each space promises. Tolerances
//! are four standard errors of both samples together, unless said otherwise; the reference's is the smaller.

use super::*;

struct Sample {
    nets: Vec<Architecture>,
    blueprints: Vec<Blueprint>,
}

impl Sample {
    fn of(space: Space, split: Split, count: usize) -> Self {
        let nets = nets(space, split, count);
        let blueprints = nets.iter().map(build).collect();
        Self { nets, blueprints }
    }

    fn values(&self, figure: impl Fn(&Blueprint) -> f64) -> Vec<f64> {
        self.blueprints.iter().map(figure).collect()
    }

    fn spread(&self, figure: impl Fn(&Blueprint) -> f64) -> Spread {
        Spread::of(self.values(figure)).unwrap()
    }

    fn share(&self, holds: impl Fn(&Architecture, &Blueprint) -> bool) -> f64 {
        let count = self.nets.iter().zip(&self.blueprints).filter(|(net, blueprint)| holds(net, blueprint)).count();
        count as f64 / self.nets.len() as f64
    }

    /// Checks the mean of a figure against the mean of `reference` networks.
    #[track_caller]
    fn mean_is_near(&self, expected: f64, reference: usize, figure: impl Fn(&Blueprint) -> f64) {
        let values = self.values(figure);
        let (n, m) = (values.len() as f64, reference as f64);
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let tolerance = 4.0 * (variance / n + variance / m).sqrt();
        assert!((mean - expected).abs() <= tolerance, "found {mean}, expected {expected} +- {tolerance}");
    }
}

#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected} +- {tolerance}");
}

fn nodes(blueprint: &Blueprint) -> f64 {
    blueprint.graph.nodes.len() as f64
}

fn levels(blueprint: &Blueprint) -> f64 {
    blueprint.graph.forward().len() as f64
}

fn edges(blueprint: &Blueprint) -> f64 {
    blueprint.graph.edges.len() as f64
}

fn pairs(blueprint: &Blueprint) -> f64 {
    blueprint.graph.incoming(10).neighbours.len() as f64
}

fn parameters(blueprint: &Blueprint) -> f64 {
    blueprint.declared_parameters as f64
}

fn macs(blueprint: &Blueprint) -> f64 {
    blueprint.macs().total() as f64
}

#[test]
fn training_networks_are_as_the_reference_draws_them() {
    let sample = Sample::of(Space::Mobile, Split::Train, 1500);
    sample.mean_is_near(163.0, 150, nodes);
    sample.mean_is_near(131.0, 150, |blueprint| blueprint.parameters.len() as f64);
    sample.mean_is_near(88.0, 150, levels);
    sample.mean_is_near(185.0, 150, edges);
    sample.mean_is_near(3_400.0, 150, pairs);
    sample.mean_is_near(1.23e6, 150, parameters);
    sample.mean_is_near(105e6, 500, macs);
    // Medians scatter as means do, times 1.25 if normal, by more if skewed: a fifth.
    for (found, expected) in
        [(sample.spread(levels), 82.0), (sample.spread(parameters), 0.62e6), (sample.spread(macs), 59e6)]
    {
        near(found.percentiles[2], expected, 0.2 * expected);
    }
    let [_, low, _, high, _] = sample.spread(nodes).percentiles;
    near(low, 68.0, 14.0);
    near(high, 307.0, 40.0);
    let total: f64 = sample.values(nodes).iter().sum();
    for (primitive, percent) in [
        (Primitive::Conv, 36.0),
        (Primitive::BatchNorm, 33.0),
        (Primitive::Sum, 9.0),
        (Primitive::SepConv, 7.0),
        (Primitive::Concat, 4.0),
        (Primitive::DilConv, 3.5),
        (Primitive::MaxPool, 2.5),
        (Primitive::AveragePool, 2.0),
        (Primitive::Bias, 1.0),
        (Primitive::Input, 0.6),
        (Primitive::GlobalAverage, 0.6),
    ] {
        let of =
            |blueprint: &Blueprint| blueprint.graph.nodes.iter().filter(|n| n.primitive == primitive).count() as f64;
        // Stated to the nearest percent or half; the mix of 150 networks scatters by about as much.
        near(100.0 * sample.values(of).iter().sum::<f64>() / total, percent, 1.0);
    }
    let widths = Spread::of(sample.nets.iter().map(|net| net.width.into())).unwrap();
    near(widths.mean, 37.0, 2.0);
    assert_eq!([widths.percentiles[0], widths.percentiles[3], widths.percentiles[4]], [32.0, 64.0, 128.0]);
    near(sample.share(|net, _| !net.batch_norm), 0.034, 0.02);
    // Every BatchNorm folds into a convolution: 76 % of the convolutions have one.
    let (normed, all) = sample
        .blueprints
        .iter()
        .map(Blueprint::normed_convolutions)
        .fold((0, 0), |sum, net| (sum.0 + net.0, sum.1 + net.1));
    near(normed as f64 / all as f64, 0.76, 0.02);
}

#[test]
fn widened_networks_are_as_large_as_those_published() {
    let sample = Sample::of(Space::Mobile, Split::IdWidened, 500);
    sample.mean_is_near(3.23e6, 250, parameters);
    sample.mean_is_near(485e6, 80, macs);
    let [least, low, middle, high, _] = sample.spread(parameters).percentiles;
    // Published, and simulated from 250 networks.
    assert!((2.5e6..2.52e6).contains(&least), "{least}");
    near(low, 2.54e6, 0.03e6);
    near(middle, 3.0e6, 0.1e6);
    near(high, 5.0e6, 0.5e6);
    let widths = Spread::of(sample.nets.iter().map(|net| net.width.into())).unwrap();
    near(widths.percentiles[2], 80.0, 16.0);
    near(widths.percentiles[3], 200.0, 32.0);
    // The rule: one step narrower is too small.
    for net in &sample.nets {
        let narrower = build(&Architecture { width: net.width - 16, ..net.clone() }).declared_parameters;
        assert!(net.width == 32 || narrower < 2_500_000, "{net}");
    }
}

#[test]
fn deep_networks_are_deep() {
    let sample = Sample::of(Space::Mobile, Split::Deep, 300);
    assert!(sample.nets.iter().all(|net| (10..=36).contains(&net.cells)));
    sample.mean_is_near(313.0, 40, nodes);
    sample.mean_is_near(174.0, 40, levels);
    sample.mean_is_near(357.0, 40, edges);
    sample.mean_is_near(7_100.0, 40, pairs);
    assert!(sample.spread(parameters).percentiles[4] <= 1e7);
    let edge = Sample::of(Space::Edge, Split::Deep, 60);
    assert!(edge.nets.iter().all(|net| (8..=14).contains(&net.cells)));
}

#[test]
fn networks_without_norm_have_none() {
    let sample = Sample::of(Space::Mobile, Split::BnFree, 300);
    sample.mean_is_near(114.0, 40, nodes);
    sample.mean_is_near(79.0, 40, |blueprint| blueprint.parameters.len() as f64);
    sample.mean_is_near(68.0, 40, levels);
    for (space, split) in
        [(Space::Mobile, Split::BnFree), (Space::Mobile, Split::BnFreeTrain), (Space::Edge, Split::BnFree)]
    {
        let sample = Sample::of(space, split, 40);
        let norms = sample.values(|blueprint| blueprint.normed_convolutions().0 as f64);
        assert!(sample.nets.iter().all(|net| !net.batch_norm) && norms.iter().all(|&n| n == 0.0), "{space} {split}");
    }
}

#[test]
fn wide_networks_are_wider_than_any_of_training() {
    let sample = Sample::of(Space::Mobile, Split::Wide, 100);
    assert!(sample.nets.iter().all(|net| (144..=256).contains(&net.width)));
    assert!(sample.spread(parameters).percentiles[4] <= 1e7);
    // As measured with the reference: 36 % of the draws taken, 3.9 million parameters.
    sample.mean_is_near(3.9e6, 100, parameters);
    let (_, tally) = Sampler::new(mobile(Split::Wide)).unwrap().generate(100, &|_| {}).unwrap();
    let taken = 100.0 / (100 + tally.rejected[Rejection::Parameters as usize]) as f64;
    near(taken, 0.36, 0.12);
    let training = Sample::of(Space::Edge, Split::Id, 60).nets.iter().map(|net| net.width).max();
    let wide = Sample::of(Space::Edge, Split::Wide, 20).nets.iter().map(|net| net.width).min();
    assert!(training < wide, "{training:?} and {wide:?}");
}

#[test]
fn edge_networks_fit_their_boards() {
    for split in [Split::Id, Split::Deep, Split::Wide, Split::BnFree] {
        let sample = Sample::of(Space::Edge, split, 40);
        let flash = sample.spread(parameters).percentiles[4];
        let arena = sample.spread(|blueprint| arena_bytes(blueprint).unwrap() as f64).percentiles[4];
        let macs = sample.spread(macs).percentiles[4];
        assert!(flash <= 384e3 && arena <= 96.0 * 1024.0, "{split}: {flash} parameters, {arena} bytes");
        assert!(macs <= if split == Split::Wide { 40e6 } else { 10e6 }, "{split}: {macs}");
    }
    let sample = Sample::of(Space::Edge, Split::Id, 400);
    // Wanted is about 4 million on average.
    near(sample.spread(macs).mean, 4.4e6, 0.5e6);
    near(sample.share(|net, _| !net.batch_norm), 0.034, 0.025);
    assert!(sample.nets.iter().any(|net| net.width == 24) && sample.nets.iter().any(|net| net.width == 8));
}

#[test]
fn switches_and_rules_hold() {
    let ops = |switches: Switches| {
        let request = Request { switches, ..mobile(Split::Id) };
        let (set, _) = Sampler::new(request).unwrap().generate(300, &|_| {}).unwrap();
        let nets: Vec<Architecture> = set.iter().collect();
        for net in &nets {
            let large =
                |cell: &[Step]| cell.iter().flat_map(|step| step.branches).filter(|(op, _)| op.is_large()).count();
            assert!(large(&net.normal) <= 1 && large(&net.reduction) <= 1, "{net}");
            assert!(net.ops().any(CellOp::is_convolution), "{net}");
            assert!(net.normal.len() > 1 || net.ops().all(|op| op != CellOp::None), "{net}");
        }
        CellOp::ALL.map(|op| nets.iter().any(|net| net.ops().any(|other| other == op)))
    };
    let with = |convolution_1x1, depthwise_7x7| ops(Switches { convolution_1x1, depthwise_7x7 });
    let all_but = |missing: &[CellOp]| CellOp::ALL.map(|op| !missing.contains(&op));
    let large = [CellOp::Separable7, CellOp::Dilated7];
    assert_eq!(with(true, false), all_but(&large));
    assert_eq!(with(false, true), all_but(&[CellOp::Convolution1]));
    assert_eq!(with(true, true), all_but(&[]));
}

fn mobile(split: Split) -> Request {
    Request::new(Space::Mobile, split, 1)
}

#[test]
fn summaries_are_of_the_networks() {
    let (set, _) = Sampler::new(Request::new(Space::Edge, Split::Id, 1)).unwrap().generate(9, &|_| {}).unwrap();
    let all = Summary::of(&set, 1000).unwrap().unwrap();
    assert_eq!((all.networks, all.sampled), (9, 9));
    let blueprints: Vec<Blueprint> = set.iter().map(|net| build(&net)).collect();
    let statistics: Vec<Statistics> = blueprints.iter().map(|blueprint| Statistics::of(blueprint).unwrap()).collect();
    let spread = |name| all.spreads.iter().find(|(other, _)| *other == name).unwrap().1;
    assert_eq!(spread("MACs").mean, statistics.iter().map(|s| s.macs() as f64).sum::<f64>() / 9.0);
    assert_eq!(spread("nodes").percentiles[4] as usize, statistics.iter().map(|s| s.nodes).max().unwrap());
    let some = Summary::of(&set, 3).unwrap().unwrap();
    let of_three = some.spreads.iter().find(|(name, _)| *name == "arena bytes").unwrap().1;
    let expected = [0, 3, 6].map(|i| statistics[i].arena_bytes as f64);
    assert_eq!(of_three.mean, expected.iter().sum::<f64>() / 3.0);
    assert!((all.census.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-12);
}

#[test]
fn spreads_by_hand() {
    let spread = Spread::of((0..=100).rev().map(f64::from)).unwrap();
    assert_eq!((spread.mean, spread.percentiles), (50.0, [0.0, 5.0, 50.0, 95.0, 100.0]));
    assert_eq!(Spread::of([]), None);
}
