//! Everything one does with a file that came from anywhere: read it, list it, fold it, write it again. Enters: bytes. Leaves:
//! nothing, or the error with which they are refused. Used by tests and by the fuzz target.

use super::{ReadError, ReadOptions, WriteOptions, read, summarize, write_float, write_qdq};
use crate::network::Preprocessing;
use crate::{fold, image};

/// Elements of all activations, and nodes, up to which a network is written: hostile ones may ask for gigabytes and hours.
const LIMITS: (usize, usize) = (1 << 20, 60);

/// Reads `bytes`, and writes what was read.
///
/// # Errors
/// That of [`read()`](super::read()).
///
/// # Panics
/// When a network that was read is written to what cannot be read again: a defect, which tests and the fuzz target look for.
pub fn exercise(bytes: &[u8]) -> Result<(), ReadError> {
    let _ = summarize(bytes, "exercise.onnx");
    let attempt = |options: &ReadOptions| read(bytes, "exercise.onnx", options);
    let keeping = ReadOptions { keep_softmax: true, ..ReadOptions::default() };
    let imported = match attempt(&keeping) {
        Err(ReadError::NoPreprocessing { channels, .. }) if channels <= LIMITS.0 => {
            let preprocessing = Some(Preprocessing { mean: vec![0.5; channels], std: vec![0.25; channels] });
            attempt(&ReadOptions { preprocessing, ..keeping })
        }
        other => other,
    }?;
    let network = &imported.network;
    let elements = network.tensors.iter().fold(0usize, |sum, tensor| sum.saturating_add(tensor.shape.len()));
    if elements > LIMITS.0 || network.nodes.len() > LIMITS.1 {
        return Ok(());
    }
    let again = |bytes: Vec<u8>| {
        read(&bytes, "again.onnx", &ReadOptions::default()).map(drop).unwrap_or_else(|error| panic!("{error}"));
    };
    if imported.quantized {
        // The writer checks what it has written with the runtime's own check.
        if let Err(error @ image::ImageWriteError::Refused(_)) = image::write(network) {
            panic!("{error}");
        }
        if let Ok(bytes) = write_qdq(network, &WriteOptions::default()) {
            again(bytes);
        }
    } else if let Ok(folded) = fold::fold(network)
        && let Ok(bytes) = write_float(&folded, &WriteOptions::default())
    {
        again(bytes);
    }
    Ok(())
}
