//! Tests of this folder.

mod golden;
mod gradients;
mod quantized;
mod start;
mod training;
