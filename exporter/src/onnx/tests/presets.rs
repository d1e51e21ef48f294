//! What each preset promises: the form of activations and weights, the types in the file, the way back, and that the
//! consumer's known refusals are refused here first.

use super::{PRECISIONS, anonymous_image, decode, float, read_back, refusal_of};
use crate::network::{Network, Op};
use crate::onnx::read::file::{INT4, INT8, UINT8, width};
use crate::onnx::{Preset, QUANTIZED, Storage, WriteOptions, write_qdq};
use crate::pipeline::quantize_network;
use crate::samples::images;

/// A drawn network as `preset` wants it.
pub(super) fn preset_network(seed: u64, preset: Preset, [weights, activations]: [u8; 2]) -> Network {
    let float = float(seed);
    let options = preset.options(weights, activations);
    preset.arrange(quantize_network(&float, &images(&float, 8, seed), &options).unwrap().network)
}

pub(super) fn options(preset: Preset) -> WriteOptions {
    WriteOptions { storage: preset.storage(), preset: Some(preset), ..Default::default() }
}

/// Signedness of activations, then of weights; whether weights have a scale for each channel.
fn promised(preset: Preset, weight_bits: u8) -> [bool; 3] {
    match preset {
        Preset::Mobile | Preset::Paper => [false, false, false],
        Preset::Qnn if weight_bits == 8 => [false, false, false],
        Preset::MobilePerChannel | Preset::Qnn => [false, true, true],
        Preset::Xnnpack => [true, true, true],
        Preset::X86 => [false, true, false],
    }
}

#[test]
fn each_preset_keeps_its_promise_and_comes_back() {
    for preset in Preset::ALL {
        for bits in PRECISIONS {
            for seed in 0..5 {
                let network = preset_network(seed, preset, bits);
                let [activations, weights, per_channel] = promised(preset, bits[0]);
                assert!(network.tensors.iter().flat_map(|t| &t.encoding).all(|e| e.signed == activations));
                for node in &network.nodes {
                    let (integers, channels) = match &node.op {
                        Op::Conv2d(conv) => (conv.integers.as_ref().unwrap(), conv.out_channels),
                        Op::Dense(dense) => (dense.integers.as_ref().unwrap(), dense.out_features),
                        _ => continue,
                    };
                    let e = &integers.encoding;
                    assert_eq!((e.signed, e.scale.len()), (weights, if per_channel { channels } else { 1 }));
                    assert!(!per_channel || e.zero_point.iter().all(|&z| z == 0), "{preset:?}");
                }
                let bytes = write_qdq(&network, &options(preset)).unwrap();
                let imported = read_back(&bytes);
                assert!(anonymous_image(&imported.network) == anonymous_image(&network), "{preset:?} {bits:?} {seed}");
                let versions = decode(&bytes);
                let native = preset.storage() == Storage::Native && bits != [8, 8];
                assert_eq!(versions.opset_import[0].version > 19, native, "{preset:?} {bits:?}");
            }
        }
    }
}

/// Element types of the zero points of weights and of activations.
fn zero_point_types(bytes: &[u8]) -> [Vec<i32>; 2] {
    let model = decode(bytes);
    let graph = model.graph.unwrap();
    let mut types = [vec![], vec![]];
    for node in graph.node.iter().filter(|n| n.op_type.ends_with("quantizeLinear") || n.op_type == "QuantizeLinear") {
        let zero_point = graph.initializer.iter().find(|t| t.name == node.input[2]).unwrap().data_type;
        if width(zero_point).is_some() {
            let is_activation = node.op_type == "QuantizeLinear" || node.input[0].ends_with(QUANTIZED);
            types[usize::from(is_activation)].push(zero_point);
        }
    }
    types.map(|mut types| {
        types.sort_unstable();
        types.dedup();
        types
    })
}

#[test]
fn types_in_the_file_are_those_of_the_consumer() {
    let of = |preset, bits| zero_point_types(&write_qdq(&preset_network(4, preset, bits), &options(preset)).unwrap());
    for bits in PRECISIONS {
        assert_eq!(of(Preset::Mobile, bits), [[UINT8], [UINT8]]);
        assert_eq!(of(Preset::Paper, bits), [[UINT8], [UINT8]]);
        assert_eq!(of(Preset::MobilePerChannel, bits), [[INT8], [UINT8]]);
        assert_eq!(of(Preset::Xnnpack, bits), [[INT8], [INT8]]);
        assert_eq!(of(Preset::X86, bits), [[INT8], [UINT8]]);
    }
    assert_eq!(of(Preset::Qnn, [8, 8]), [[UINT8], [UINT8]]);
    assert_eq!(of(Preset::Qnn, [4, 8]), [[INT4], [UINT8]]);
}

#[test]
fn what_a_consumer_refuses_is_refused_by_name() {
    let write = |made_for, written_for| refusal_of(&preset_network(4, made_for, [8, 8]), &options(written_for));
    let cases = [
        (Preset::Xnnpack, Preset::Mobile, "preset mobile: signed activations"),
        (Preset::MobilePerChannel, Preset::Xnnpack, "preset xnnpack: activations and weights of different signedness"),
        (Preset::X86, Preset::Qnn, "zero point other than 0"),
    ];
    for (made_for, written_for, expected) in cases {
        let found = write(made_for, written_for).unwrap();
        assert!(found.contains(expected) && found.starts_with("node `"), "{found:?} does not say {expected:?}");
    }
    assert_eq!(write(Preset::Mobile, Preset::Xnnpack), None, "XNNPACK also takes unsigned with unsigned");
}
