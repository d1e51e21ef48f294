//! PARAMETERS -> QUANTIZED NETWORK -> ONNX, FLASH IMAGE.
pub mod calibrate;
pub mod checkpoint;
pub mod correct;
pub mod data;
pub mod equalize;
pub mod execute;
pub mod file;
pub mod fold;
pub mod image;
pub mod network;
pub mod onnx;
pub mod pipeline;
pub mod plan;
pub mod quantize;
pub mod rounding;
pub mod sensitivity;
pub mod size_table;
pub mod verify;

#[cfg(test)]
mod samples;
