//! Tests of this folder.

mod golden;
mod gradients;
mod norm_free;
mod quantized;
mod start;
mod training;
