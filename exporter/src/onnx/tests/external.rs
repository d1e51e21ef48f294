//! Constants in a file beside the model: read as if they were in it, and never from anywhere else.

use std::path::Path;

use prost::Message;
use tract_onnx::pb::{ModelProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation};

use super::{decode, float};
use crate::network::Network;
use crate::onnx::{ReadError, ReadOptions, WriteOptions, read, write_float};

const FILE: &str = "weights.bin";

/// Says where a constant's data lie.
fn point(tensor: &mut TensorProto, location: &str, offset: usize, length: usize) {
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: key.into(), value };
    let entries = [("location", location.to_owned()), ("offset", offset.to_string()), ("length", length.to_string())];
    tensor.external_data = entries.map(entry).to_vec();
    tensor.data_location = Some(DataLocation::External as i32);
}

/// A model, and the file with the data of all its float constants.
fn split(network: &Network) -> (ModelProto, Vec<u8>) {
    let mut model = decode(&write_float(network, &WriteOptions::default()).unwrap());
    let mut data = Vec::new();
    for tensor in model.graph.as_mut().unwrap().initializer.iter_mut().filter(|tensor| tensor.data_type == 1) {
        let bytes: Vec<u8> = match tensor.raw_data.is_empty() {
            true => tensor.float_data.drain(..).flat_map(f32::to_le_bytes).collect(),
            false => std::mem::take(&mut tensor.raw_data),
        };
        point(tensor, FILE, data.len(), bytes.len());
        data.extend(bytes);
    }
    (model, data)
}

fn read_in(model: &ModelProto, folder: Option<&Path>) -> Result<Network, ReadError> {
    let options = ReadOptions { folder: folder.map(Path::to_owned), ..ReadOptions::default() };
    read(&model.encode_to_vec(), "split.onnx", &options).map(|imported| imported.network)
}

#[test]
fn constants_beside_the_model_are_read_as_if_in_it() {
    let network = float(4);
    let whole = read(&write_float(&network, &WriteOptions::default()).unwrap(), "whole.onnx", &ReadOptions::default());
    let (model, data) = split(&network);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), data).unwrap();
    assert_eq!(read_in(&model, Some(folder.path())).unwrap(), whole.unwrap().network);
    let error = read_in(&model, None).unwrap_err().to_string();
    assert!(error.contains("lie outside this file"), "{error}");
}

#[test]
fn nothing_is_read_from_elsewhere() {
    let (model, data) = split(&float(4));
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(root.path().join(FILE), &data).unwrap();
    let link = folder.join("link.bin");
    std::os::unix::fs::symlink(root.path().join(FILE), link).unwrap();
    let outside = root.path().join(FILE).display().to_string();
    let refusal = |change: &dyn Fn(&mut TensorProto)| {
        let mut model = model.clone();
        let constants = &mut model.graph.as_mut().unwrap().initializer;
        constants.iter_mut().filter(|tensor| !tensor.external_data.is_empty()).for_each(change);
        read_in(&model, Some(&folder)).unwrap_err().to_string()
    };
    let location = |text: &str| {
        let text = text.to_owned();
        move |tensor: &mut TensorProto| tensor.external_data[0].value.clone_from(&text)
    };
    for path in ["../weights.bin", "a/../../weights.bin", &outside, "link.bin"] {
        let error = refusal(&location(path));
        assert!(error.contains("lie outside this file"), "{path}: {error}");
    }
    let error = refusal(&|_| {});
    assert!(error.contains(FILE) && error.contains("No such file"), "{error}");

    std::fs::write(folder.join(FILE), &data[..data.len() - 1]).unwrap();
    let error = refusal(&|_| {});
    assert!(error.contains("expected") && error.contains("from byte"), "{error}");
    std::fs::write(folder.join(FILE), &data).unwrap();
    let error = refusal(&|tensor| tensor.external_data[1].value = "-4".into());
    assert!(error.contains("offset `-4`, expected a number"), "{error}");
    let error = refusal(&|tensor| tensor.external_data[2].value = "3".into());
    assert!(error.contains("3 bytes of data, expected"), "{error}");
    // All at the place of the first, in a file that holds no more than the largest.
    let largest =
        model.graph.as_ref().unwrap().initializer.iter().map(|tensor| tensor.dims.iter().product::<i64>()).max();
    std::fs::write(folder.join(FILE), &data[..4 * largest.unwrap() as usize]).unwrap();
    let error = refusal(&|tensor| tensor.external_data[1].value = "0".into());
    assert!(error.contains("constants share bytes"), "{error}");
}
