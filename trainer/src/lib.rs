//! GRAPH -> PARAMETERS.
//!
//! *Enters*: a network with first weights ([`nets`]), labelled images, a recipe. *Leaves*: the same network, trained in
//! floats and then with quantization in the loop ([`fit`]), with the encodings of its activations, as a SafeTensors
//! checkpoint that the exporter reads. *Refused*, with a message that says what was found and expected: recipes and data
//! that do not fit, training that diverges, checkpoints that hold no run.
//!
//! [`graph`] draws networks that nobody has trained, and spells them out for a hypernetwork.
//!
//! [`study`] compares starts, [`eval`] tests predicted networks.
//!
//! [`run`] executes a network with burn, [`quant`] simulates its integers (Eq. 1 to 4 of the paper), [`ops`] are the
//! operations that this costs, [`data`] makes batches.

pub mod data;
pub mod device;
mod difference;
pub mod eval;
pub mod fit;
pub mod graph;
pub mod hypernet;
pub mod nets;
pub mod ops;
pub mod quant;
pub mod run;
pub mod study;

pub use difference::difference;
