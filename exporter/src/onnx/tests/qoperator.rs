//! Quantized operators: the way back, what ONNX Runtime computes with them, and tract, which has those of the standard.

use super::agreement::runtime_values;
use super::engines::tract;
use super::onnx_runtime::{agree_exactly, cases, run};
use super::presets::{options, preset_network};
use super::{FOREIGN, anonymous_image, decode, read_back, refusal_of};
use crate::onnx::{Batch, Form, Preset, Storage, WriteOptions, write_qdq};
use crate::samples::images;

const FORMS: [Form; 2] = [Form::QOperator, Form::OnnxRuntime];
const PRESETS: [Preset; 4] = [Preset::Mobile, Preset::MobilePerChannel, Preset::Xnnpack, Preset::X86];
const WIDTHS: [[u8; 2]; 3] = [[8, 8], [4, 8], [4, 4]];

fn form_options(preset: Preset, form: Form) -> WriteOptions {
    WriteOptions { form, ..options(preset) }
}

#[test]
fn quantized_operators_come_back_to_the_same_flash_image() {
    for (preset, form) in PRESETS.into_iter().flat_map(|preset| FORMS.map(|form| (preset, form))) {
        for bits in WIDTHS {
            for seed in (0..8).chain(FOREIGN..FOREIGN + 8) {
                let mut network = preset_network(seed, preset, bits);
                // Without biases a dense layer becomes a QLinearMatMul.
                if let Some(crate::network::Op::Dense(dense)) = network.nodes.last_mut().map(|node| &mut node.op)
                    && seed % 2 == 0
                {
                    dense.integers.as_mut().unwrap().bias.fill(0);
                }
                let bytes = write_qdq(&network, &form_options(preset, form)).unwrap();
                let model = decode(&bytes);
                let operators: Vec<&str> =
                    model.graph.as_ref().unwrap().node.iter().map(|node| node.op_type.as_str()).collect();
                assert!(!operators.contains(&"Conv"));
                let last = if form == Form::OnnxRuntime { "QGemm" } else { "QLinearMatMul" };
                assert!(operators.contains(&last) || form == Form::QOperator && seed % 2 == 1, "{operators:?}");
                assert_eq!(model.opset_import.len(), if form == Form::OnnxRuntime { 2 } else { 1 });
                let imported = read_back(&bytes);
                assert!(imported.quantized && imported.notes.is_empty(), "{:?}", imported.notes);
                let found = anonymous_image(&imported.network);
                assert!(found == anonymous_image(&network), "{preset:?} {form:?} {bits:?} {seed}");
            }
        }
    }
}

#[test]
fn onnx_runtime_computes_quantized_operators() {
    for (preset, form) in PRESETS.into_iter().flat_map(|preset| FORMS.map(|form| (preset, form))) {
        let cases = cases(24, 8, |seed| preset_network(if seed < 12 { seed } else { FOREIGN + seed }, preset, [8, 8]));
        // What stays between DequantizeLinear and QuantizeLinear is fused as ever; the signed ones only when asked for.
        let Some(ran) = run(&cases, &form_options(preset, form), &["--signed"]) else { return };
        println!("{} {form:?}: none of {} differ", preset.name(), agree_exactly(&cases, &ran));
    }
}

#[test]
fn tract_computes_the_operators_of_the_standard() {
    for preset in PRESETS {
        let (mut different, mut all) = (0, 0);
        for seed in 0..8 {
            let network = preset_network(seed, preset, [8, 8]);
            let pixels = images(&network, 8, seed + 1);
            let options = WriteOptions { batch: Batch::Fixed(8), ..form_options(preset, Form::QOperator) };
            let theirs = tract(&write_qdq(&network, &options).unwrap(), &network, &pixels);
            let output = &network.tensors[network.output];
            let ours = &runtime_values(&network, &pixels)[&output.name];
            let encoding = output.encoding.as_ref().unwrap();
            different += ours.iter().zip(&theirs).filter(|(a, b)| **a != encoding.quantize(0, **b)).count();
            all += ours.len();
        }
        println!("{}: {different} of {all} logits differ", preset.name());
        assert!(different * 50 <= all);
    }
}

#[test]
fn native_types_are_refused_where_operators_do_not_take_them() {
    for bits in [[4, 4], [4, 8], [8, 4]] {
        let network = preset_network(2, Preset::Mobile, bits);
        let options = WriteOptions { storage: Storage::Native, ..form_options(Preset::Mobile, Form::QOperator) };
        let found = refusal_of(&network, &options).unwrap();
        assert!(found.contains("takes bytes only") && found.contains("portably"), "{found}");
    }
}
