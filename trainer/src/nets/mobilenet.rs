//! MobileNet v1, for small images: pairs of a depthwise 3x3 and a pointwise convolution, each with BatchNorm and ReLU.
//! Enters: an image. Leaves: 128 channels at an eighth of the size.

use super::build::Builder;
use exporter::network::{NetworkError, TensorId, Window};

/// Output channels and stride of each pair.
const PAIRS: [(usize, usize); 8] = [(32, 1), (64, 2), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (128, 2)];

pub(super) fn mobilenet(b: &mut Builder<'_>, image: TensorId) -> Result<TensorId, NetworkError> {
    let mut x = b.conv_norm_relu("stem", image, 16, Window::square(3, 1, 1), 1)?;
    let mut channels = 16;
    for (i, (out, stride)) in PAIRS.into_iter().enumerate() {
        let name = |part: &str| format!("pair{}_{part}", i + 1);
        x = b.conv_norm_relu(&name("depthwise"), x, channels, Window::square(3, stride, 1), channels)?;
        x = b.conv_norm_relu(&name("pointwise"), x, out, Window::square(1, 1, 0), 1)?;
        channels = out;
    }
    Ok(x)
}
