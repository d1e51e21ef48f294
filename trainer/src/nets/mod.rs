//! Named networks to train. Enters: a name, the image's shape, how many classes, a seed. Leaves: a
//! [`Network`] with its first weights. Refused: names that nobody knows (the error lists those known) and images that a
//! network's strides do not fit.

mod build;
mod init;
mod mobilenet;
mod resnet;
#[cfg(test)]
mod tests;
mod vgg;

use build::Builder;
use exporter::network::{Network, NetworkError, Preprocessing, Shape, TensorId};
pub use init::Init;
pub(crate) use init::unit;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Every name that [`by_name`] knows, with one line about it.
pub const NAMES: [(&str, &str); 3] = [
    ("resnet8", "residual, 8 layers, 12.5 M MACs, 78 k parameters (MLPerf Tiny's image classifier)"),
    ("mobilenet", "depthwise and pointwise pairs as MobileNet v1, 7.2 M MACs, 78 k parameters"),
    ("vgg", "plain 3x3 convolutions with max pooling, 21.9 M MACs, 163 k parameters"),
];

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Not in [`NAMES`].
    #[error("unknown network `{found}`; known: {}", NAMES.map(|(name, _)| name).join(", "))]
    Unknown {
        /// What was asked for.
        found: String,
    },
    /// The image does not fit, or there are no classes.
    #[error("network `{name}`: {reason}")]
    Input {
        /// The network's name.
        name: String,
        /// Found and expected.
        reason: String,
    },
    /// A layer does not fit.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// What a named network is built for.
#[derive(Clone, Debug)]
pub struct Task {
    /// `C H W` of one image.
    pub input: Shape,
    /// From pixels to the input.
    pub preprocessing: Preprocessing,
    /// Class names, one for each logit.
    pub labels: Vec<String>,
}

/// The network `name` with weights drawn by `init` from `seed`.
///
/// # Errors
/// [`NetError`]: unknown name, image smaller than 8 x 8, fewer than two classes.
pub fn by_name(name: &str, task: &Task, init: Init, seed: u64) -> Result<Network, NetError> {
    let body: fn(&mut Builder<'_>, TensorId) -> Result<TensorId, NetworkError> = match name {
        "resnet8" => resnet::resnet8,
        "mobilenet" => mobilenet::mobilenet,
        "vgg" => vgg::vgg,
        _ => return Err(NetError::Unknown { found: name.into() }),
    };
    let refuse = |reason: String| NetError::Input { name: name.into(), reason };
    if task.input.h < 8 || task.input.w < 8 {
        return Err(refuse(format!("images of {}, expected at least 8 x 8 pixels", task.input)));
    }
    if task.labels.len() < 2 {
        return Err(refuse(format!("{} classes, expected at least 2", task.labels.len())));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let network = Network::new(name, task.input, task.preprocessing.clone(), task.labels.clone());
    let mut builder = Builder { network, init, rng: &mut rng };
    let x = builder.network.input;
    let features = body(&mut builder, x)?;
    builder.classifier(features, task.labels.len())?;
    let network = builder.network;
    network.check()?;
    Ok(network)
}
