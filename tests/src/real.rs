//! A trained network and real images. Enters: nothing. Leaves: ResNet-8 (CIFAR-10, `tests/models`), quantized; images of CIFAR-10
//! where `INTACT_CIFAR10` or the user's cache has them, drawn ones otherwise, which is said.

use exporter::data::{Dataset, Options, Split, open};
use exporter::network::Network;
use std::path::{Path, PathBuf};

/// The float checkpoint.
pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet8-cifar10.safetensors");

/// The folder with the real images, if this machine has them.
pub fn cifar10() -> Option<PathBuf> {
    let stated = std::env::var_os("INTACT_CIFAR10").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    stated.or_else(|| Some(cache.or(home)?.join("intact-data/cifar10")).filter(|path| path.is_dir()))
}

/// Test images, and whether they are real.
///
/// # Panics
/// When the folder with them cannot be read.
pub fn images(count: usize) -> (Dataset, bool) {
    let folder = cifar10();
    if folder.is_none() {
        println!("no CIFAR-10 (set INTACT_CIFAR10 to its folder): drawn images take its place");
    }
    let spec = folder.as_ref().map_or("shapes10".into(), |path| path.to_string_lossy());
    let set = open(&spec, Split::Test, &Options::default()).expect("the data set and the model can be read");
    // The classes of a folder lie one after the other: a stride takes some of each.
    let stride = (set.len() / count).max(1);
    (set.subset((0..set.len()).step_by(stride).take(count)), folder.is_some())
}

/// The model, 8 bits throughout, with ranges of `training`.
///
/// # Panics
/// When the repository's model is not there.
pub fn quantized(training: &Dataset) -> Network {
    let (network, _) = exporter::checkpoint::load(Path::new(MODEL)).expect("the data set and the model can be read");
    let options = exporter::pipeline::Options::mobile(8, 8);
    exporter::pipeline::quantize_network(&network, training.images(), &options)
        .expect("the data set and the model can be read")
        .network
}
