//! For which machine a flash image is written. Enters: names. Leaves: the orders of weights that its executors take. Refused: other
//! names.

use runtime::host::{PackError, Packing};
use std::fmt;
use std::str::FromStr;

/// A machine, or an executor by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Cortex-M4, M7 or M33: its kernels take weights as every image has them.
    CortexM4,
    /// A Raspberry Pi Zero 2, 3 or 4: `neon`.
    Pi4,
    /// A Raspberry Pi 5: `dotprod`.
    Pi5,
    /// `avx2` and `avx512vnni`.
    X86,
    /// An executor's order.
    Executor(Packing),
}

impl Target {
    /// The orders of weights that its executors take; none where it is that of every image.
    pub fn packings(self) -> Vec<Packing> {
        match self {
            Self::CortexM4 => Vec::new(),
            Self::Pi4 => vec![Packing::Pairs],
            Self::Pi5 => vec![Packing::Signed],
            Self::X86 => vec![Packing::Words, Packing::Bytes],
            Self::Executor(packing) => vec![packing],
        }
    }
}

/// A name of no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTarget(String);

impl fmt::Display for UnknownTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no target `{}`, expected one of cortex-m4, pi4, pi5, x86", self.0)?;
        Packing::ALL.iter().flat_map(|packing| packing.executors()).try_for_each(|name| write!(f, ", {name}"))
    }
}

impl std::error::Error for UnknownTarget {}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(name: &str) -> Result<Self, UnknownTarget> {
        Ok(match name {
            "cortex-m4" => Self::CortexM4,
            "pi4" => Self::Pi4,
            "pi5" => Self::Pi5,
            "x86" => Self::X86,
            _ => {
                let found = Packing::ALL.into_iter().find(|packing| packing.executors().contains(&name));
                Self::Executor(found.ok_or_else(|| UnknownTarget(name.to_owned()))?)
            }
        })
    }
}

/// The image with its weights packed besides for each of the targets: still the same image to every other machine.
///
/// # Errors
/// [`PackError`].
pub fn pack(file: &[u8], targets: &[Target]) -> Result<Vec<u8>, PackError> {
    let packings: Vec<Packing> = targets.iter().flat_map(|target| target.packings()).collect();
    runtime::host::pack(file, &packings)
}
