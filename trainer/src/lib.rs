//! GRAPH -> PARAMETERS.
pub mod data;
pub mod device;
pub mod fit;
pub mod nets;
pub mod ops;
pub mod quant;
pub mod run;
