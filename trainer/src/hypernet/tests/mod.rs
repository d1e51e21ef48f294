//! Tests of this folder.

mod golden;
mod gradients;
mod start;
mod training;
