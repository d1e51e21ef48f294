//! Files that want to do harm, or were harmed: whatever the bytes, the answer is a network or an error, never a panic, and
//! never more memory than a file of that size may ask for.

use prost::Message;
use tract_onnx::pb::{ModelProto, TensorProto};

use super::presets::{options, preset_network};
use super::{decode, read};
use crate::onnx::{Form, Preset, ReadError, ReadOptions, Storage, WriteOptions, write_qdq};
use crate::samples::Random;

/// One file of each form that is written.
fn files() -> Vec<Vec<u8>> {
    let forms = [
        WriteOptions::default(),
        WriteOptions { storage: Storage::Native, ..Default::default() },
        WriteOptions { form: Form::QOperator, ..Default::default() },
        WriteOptions { form: Form::OnnxRuntime, ..Default::default() },
    ];
    let of = |(seed, form): (usize, &WriteOptions)| {
        let network = preset_network(seed as u64, Preset::MobilePerChannel, [4, 8]);
        write_qdq(&network, &WriteOptions { preset: options(Preset::MobilePerChannel).preset, ..*form }).unwrap()
    };
    forms.iter().enumerate().map(of).collect()
}

fn try_read(bytes: &[u8]) -> Result<(), ReadError> {
    read(bytes, "hostile.onnx", &ReadOptions::default()).map(drop)
}

/// The message with which a changed model is refused.
fn refusal(bytes: &[u8], change: impl FnOnce(&mut ModelProto)) -> String {
    let mut model = decode(bytes);
    change(&mut model);
    try_read(&model.encode_to_vec()).unwrap_err().to_string()
}

#[test]
fn files_cut_short_are_refused() {
    for file in files() {
        for len in (0..file.len()).step_by(97) {
            // What is cut at the end of a field may be a model of its own, but no whole one.
            assert!(try_read(&file[..len]).is_err(), "{len} of {} bytes", file.len());
        }
        try_read(&file).unwrap();
    }
}

/// Those, and the files of `tests/data/foreign`, with all operators that are imported.
#[test]
fn changed_bytes_give_an_answer() {
    let mut random = Random::new(7);
    let (mut read, mut refused) = (0, 0);
    let foreign = super::foreign::files().into_iter().map(|file| (file, 400));
    for (file, changes) in files().into_iter().map(|file| (file, 1500)).chain(foreign) {
        for _ in 0..changes {
            let mut bytes = file.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            match try_read(&bytes) {
                Ok(()) => read += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}

#[test]
fn lies_are_refused_by_name() {
    let [portable, native, ..] = &files()[..] else { panic!("forms") };
    fn constant<'m>(model: &'m mut ModelProto, part: &str) -> &'m mut TensorProto {
        let constants = &mut model.graph.as_mut().unwrap().initializer;
        constants.iter_mut().find(|t| t.name.contains(part)).unwrap()
    }
    let cases: [(String, &str); 8] = [
        (refusal(portable, |m| constant(m, "_weight").dims = vec![1 << 40, 1]), "bytes of data, expected"),
        (refusal(portable, |m| constant(m, "_weight").dims = vec![1 << 62, 1 << 62]), "impossible dims"),
        (refusal(portable, |m| constant(m, "_weight").raw_data.truncate(1)), "bytes of data, expected"),
        (
            refusal(portable, |m| {
                let shapes = m.graph.as_mut().unwrap().initializer.iter_mut();
                shapes.filter(|t| t.name.starts_with("shape") && t.dims != [1]).for_each(|t| t.raw_data[0] ^= 0xff);
            }),
            "(Reshape)",
        ),
        (refusal(portable, |m| constant(m, "signed").raw_data.truncate(3)), "initializer `signed"),
        (refusal(native, |m| constant(m, "_weight").raw_data.truncate(1)), "bytes of data, expected"),
        (
            refusal(portable, |m| {
                let nodes = &mut m.graph.as_mut().unwrap().node;
                nodes[0].input[0] = nodes.last().unwrap().output[0].clone();
            }),
            "a missing value, or a cycle",
        ),
        (
            refusal(portable, |m| {
                let weights = constant(m, "_weight");
                weights.raw_data.clear();
                weights.data_location = Some(1);
                let entry =
                    tract_onnx::pb::StringStringEntryProto { key: "location".into(), value: "../../elsewhere".into() };
                weights.external_data.push(entry);
            }),
            "lie outside this file",
        ),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
        assert!(found.starts_with("hostile.onnx: "), "{found:?}");
    }
}

#[test]
fn a_small_file_cannot_ask_for_much_memory() {
    // A byte stretched against itself: n x 1 and 1 x n give n x n.
    let file = &files()[0];
    let found = refusal(file, |model| {
        let graph = model.graph.as_mut().unwrap();
        let shift = graph.node.iter().position(|n| n.op_type == "BitShift").unwrap();
        let names = graph.node[shift].input.clone();
        for constant in graph.initializer.iter_mut().filter(|t| names.contains(&t.name)) {
            let is_column = constant.name == names[0];
            constant.raw_data = vec![1; 100_000];
            constant.dims = if is_column { vec![100_000, 1] } else { vec![1, 100_000] };
        }
    });
    assert!(found.contains("far larger than the file"), "{found}");
}
