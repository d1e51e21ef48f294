//! Bytes from anywhere as an ONNX file: refused, or listed, folded, written as a flash image that its check accepts, and as
//! an ONNX file that reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = exporter::onnx::exercise(bytes);
});
