//! Where training runs. Enters: a name. Leaves: a burn device. Refused: names that this build does not
//! know, with those it does.

pub use burn::tensor::Device;

/// Names that [`by_name`] knows in this build.
pub const NAMES: [&str; 1] = ["cpu"];

/// A name that this build does not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown device `{found}`; this build knows: {}", NAMES.join(", "))]
pub struct UnknownDevice {
    /// What was asked for.
    pub found: String,
}

/// The device `name`.
///
/// # Errors
/// [`UnknownDevice`].
pub fn by_name(name: &str) -> Result<Device, UnknownDevice> {
    match name {
        "cpu" => Ok(Device::flex()),
        _ => Err(UnknownDevice { found: name.into() }),
    }
}
