//! Constants in files beside the model. Enters: a graph and the folder that the model lies in. Leaves: the graph with those constants
//! in it, as if the model had been saved as one file. Refuses: files that are not there or too short. A path that is not relative
//! or leads out of the folder, by `..` or by a link, is not followed: such a constant stays outside, and its reader says so.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use tract_onnx::pb::{GraphProto, TensorProto, tensor_proto::DataLocation};

use super::file::{element_bits, elements, is_external};

/// Reads them and returns how many bytes they are. The error is text.
pub(super) fn load(graph: &mut GraphProto, folder: &Path) -> Result<usize, String> {
    let mut files: HashMap<PathBuf, u64> = HashMap::new();
    let mut loaded = 0;
    for tensor in graph.initializer.iter_mut().filter(|tensor| is_external(tensor)) {
        let name = tensor.name.clone();
        let Some(path) = entry(tensor, "location").and_then(|location| inside(folder, location)) else { continue };
        let bytes =
            slice(tensor, &path, &mut files).map_err(|e| format!("initializer `{name}`: {}: {e}", path.display()))?;
        loaded += bytes.len() as u64;
        // A file whose constants all name one place could ask for any amount of memory.
        if loaded > files.values().sum() {
            return Err(format!("initializer `{name}`: constants share bytes of {}", path.display()));
        }
        tensor.raw_data = bytes;
        tensor.external_data.clear();
        tensor.data_location = Some(DataLocation::Default as i32);
    }
    Ok(loaded as usize)
}

/// What `external_data` says under `key`.
fn entry<'t>(tensor: &'t TensorProto, key: &str) -> Option<&'t str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// The file, if it lies in the folder.
fn inside(folder: &Path, location: &str) -> Option<PathBuf> {
    let relative = Path::new(location);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return None;
    }
    let path = folder.join(relative);
    // Of what is not there opening says so.
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(real), Ok(folder)) => real.starts_with(folder).then_some(path),
        _ => Some(path),
    }
}

/// The constant's bytes; notes the file's length.
fn slice(tensor: &TensorProto, path: &Path, files: &mut HashMap<PathBuf, u64>) -> Result<Vec<u8>, String> {
    let number = |key: &str| match entry(tensor, key) {
        None | Some("") => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| format!("{key} `{text}`, expected a number")),
    };
    let bits = element_bits(tensor.data_type).ok_or_else(|| format!("elements of type {}", tensor.data_type))?;
    let bytes = (elements(tensor)? as u128 * bits).div_ceil(8);
    let offset = number("offset")?.unwrap_or(0);
    if let Some(length) = number("length")?.filter(|length| u128::from(*length) != bytes) {
        return Err(format!("{length} bytes of data, expected {bytes} for {:?}", tensor.dims));
    }
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let size = file.metadata().map_err(|e| e.to_string())?.len();
    if u128::from(offset) + bytes > u128::from(size) {
        return Err(format!("has {size} bytes, expected {bytes} from byte {offset} on"));
    }
    files.insert(path.to_owned(), size);
    let mut data = vec![0; bytes as usize];
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut data)).map_err(|e| e.to_string())?;
    Ok(data)
}
