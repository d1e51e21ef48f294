//! Tests of this folder.

mod golden;
mod gradients;
