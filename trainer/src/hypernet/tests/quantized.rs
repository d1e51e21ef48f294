//! Quantized networks: where BatchNorm stands, and which values ranges leave out.

use super::golden::net_a;
use crate::data::plain;
use crate::graph::{Architecture, Blueprint, Task};
use crate::hypernet::{Config, Leaves, Mode, Normalization, Parameters, Ranges, Setting, logits, predict};
use burn::tensor::{Device, Tensor, TensorData};
use exporter::network::Preprocessing;

#[test]
fn two_bits_need_ranges_that_leave_values_out() {
    let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default()).unwrap();
    let p = Parameters::init(Config { bit_widths: true, ..Config::ghn2(data.classes().len()) }, 1, 1.0).unwrap();
    let device = Device::flex();
    let values = plain(&data, 0..32, &Preprocessing::of(&data));
    let task = Task { channels: 3, size: data.height(), classes: data.classes().len() };
    let net = Blueprint::build(&Architecture { width: 8, ..net_a() }, task).unwrap();
    let tensors = &predict(&p, &[(&net, Setting::FLOAT)], 10).unwrap().tensors[0];
    let leaves = Leaves::new(&net, tensors, &device, false);
    let run = |mode: Mode| -> Vec<f32> {
        let x = TensorData::new(values.clone(), [32, 3, data.height(), data.width()]);
        logits(&net, &leaves, Tensor::from_data(x, &device), mode).into_data().try_to_vec().unwrap()
    };
    let float = run(Mode::test(Setting::FLOAT));
    // How far logits are from those of floats, by the size of the latter.
    let error = |weights, activations, normalization, ranges| {
        let mode = Mode { normalization, ranges, ..Mode::test(Setting::new(weights, activations)) };
        let squares = |a: &mut dyn Iterator<Item = f32>| a.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let found = run(mode);
        let difference = squares(&mut found.iter().zip(&float).map(|(a, b)| a - b));
        (difference / squares(&mut float.iter().copied())).sqrt()
    };
    use Normalization::{Accumulator, Folded};
    let absolute = Ranges::ABSOLUTE;
    let cut = |up_to| Ranges { weights: 0.05, activations: 0.03, up_to, both_signs: false };
    for normalization in [Folded, Accumulator] {
        let found = error(8, 8, normalization, absolute);
        assert!(found > 0.0 && found < 0.05, "{normalization:?}: {found}");
    }
    let [all, most] = [absolute, cut(2)].map(|ranges| error(2, 2, Accumulator, ranges));
    assert!(most < 0.7 * all, "two bits: {all} with absolute ranges, {most} without the ends");
    assert_eq!(error(4, 4, Accumulator, absolute), error(4, 4, Accumulator, cut(2)), "more bits keep their range");
}
