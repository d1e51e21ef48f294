//! Writing. Enters: a [`Network`] and [`WriteOptions`]. Leaves: the bytes of an ONNX file (opset 19, IR 9, later ones
//! only for types that are younger), the same for the same input. Refuses: what [`Network::check`] refuses, and in
//! quantized files what engines refuse or compute wrongly.

mod float;
mod node;
mod qdq;
mod qoperator;
mod storage;

pub use float::write_float;
pub use qdq::write_qdq;
pub use storage::Storage;

use super::builder::{Builder, Dim, Element};
use super::preset::Preset;
use crate::network::{Network, TensorId};
use node::Rank;

/// First opset with every form we write; ONNX Runtime reads it since 1.17.
const OPSET: i64 = 19;
const IR_VERSION: i64 = 9;

/// What the names of values begin with that have no name in the network; a number follows. Scales, zero points and the
/// like are there once for all that use them.
const SCALE: &str = "s";
const ZERO_POINT: &str = "z";
const LIMIT: &str = "limit";
const SHAPE: &str = "shape";
/// Floats that a DequantizeLinear gives.
const DEQUANTIZED: &str = "d";
/// Floats that an operator gives.
const REAL: &str = "r";
/// Weights on their way out of packed bytes.
const UNPACKED: &str = "u";

/// Images per run that the file is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Exactly so many, at least 1. Mobile engines want static shapes.
    Fixed(usize),
    /// Any number: the first extent is the name `N`.
    Any,
}

impl Default for Batch {
    fn default() -> Self {
        Self::Fixed(1)
    }
}

/// Operators of a quantized file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Float operators between DequantizeLinear and QuantizeLinear: engines make integer kernels of them.
    #[default]
    Qdq,
    /// QLinearConv and, for dense layers without bias, QLinearMatMul; the rest as in [`Self::Qdq`]. The standard has no
    /// others. What runs these runs them in integers, tract among them.
    QOperator,
    /// The same with ONNX Runtime's own operators (domain `com.microsoft`) for the rest. Loads nowhere else.
    OnnxRuntime,
}

/// What a file is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Images per run.
    pub batch: Batch,
    /// Which operators quantized files are made of.
    pub form: Form,
    /// How 4 and 2 bit integers are stored.
    pub storage: Storage,
    /// Who the file is for: what it refuses is refused here. `None`: any engine; then only what most of them refuse is.
    pub preset: Option<Preset>,
}

impl WriteOptions {
    fn batch_dim(&self) -> Dim {
        match self.batch {
            Batch::Fixed(images) => Dim::Fixed(images.max(1)),
            Batch::Any => Dim::Named("N"),
        }
    }
}

/// A graph in the making for one network: what float and quantized files share.
struct Sheet<'n> {
    network: &'n Network,
    builder: Builder,
    batch: Dim,
    storage: Storage,
    /// Opset and IR version.
    versions: (i64, i64),
}

impl<'n> Sheet<'n> {
    /// Reserves the names of the graph's input and output, so that they are exactly the tensors' names, and declares
    /// the input.
    fn new(network: &'n Network, options: &WriteOptions) -> Self {
        let mut builder = Builder::new(&network.name);
        let batch = options.batch_dim();
        builder.value(&network.tensors[network.input].name);
        builder.value(&network.tensors[network.output].name);
        let mut sheet = Self { network, builder, batch, storage: options.storage, versions: (OPSET, IR_VERSION) };
        let dims = sheet.dims(network.input, Rank::Image);
        sheet.builder.input(&network.tensors[network.input].name, Element::F32, &dims);
        sheet
    }

    /// Declares the output and gives the bytes.
    fn finish(mut self, rank: Rank, metadata: &[(&str, String)]) -> Vec<u8> {
        let dims = self.dims(self.network.output, rank);
        self.builder.output(&self.network.tensors[self.network.output].name, Element::F32, &dims);
        let (opset, ir_version) = self.versions;
        self.builder.finish(ir_version, opset, metadata)
    }

    /// Takes the versions that know `element`.
    fn needs(&mut self, element: Element) {
        self.versions = self.versions.max(storage::versions(element));
    }

    fn dims(&self, tensor: TensorId, rank: Rank) -> Vec<Dim> {
        let shape = self.network.tensors[tensor].shape;
        match rank {
            Rank::Image => vec![self.batch, Dim::Fixed(shape.c), Dim::Fixed(shape.h), Dim::Fixed(shape.w)],
            Rank::Vector => vec![self.batch, Dim::Fixed(shape.len())],
        }
    }

    /// Adds a Reshape of `from` and returns the name of its output.
    fn reshape(&mut self, tensor: TensorId, from: &str, to: Rank) -> String {
        let Self { network, builder, .. } = self;
        let shape = network.tensors[tensor].shape;
        // 0 copies the batch.
        let target = match to {
            Rank::Image => vec![0, shape.c as i64, shape.h as i64, shape.w as i64],
            Rank::Vector => vec![0, shape.len() as i64],
        };
        let target = builder.shared_integers(SHAPE, Element::I64, &[target.len()], &target);
        let reshaped = builder.numbered(REAL);
        builder.node("Reshape", "", &[from, &target], &reshaped, vec![]);
        reshaped
    }
}

/// The networks that both writers refuse.
fn check(network: &Network) -> Result<(), super::WriteError> {
    network.check()?;
    if network.input == network.output {
        let name = network.tensors[network.input].name.clone();
        return Err(super::WriteError::Tensor { tensor: name, reason: "is input and output: there is no node".into() });
    }
    Ok(())
}
