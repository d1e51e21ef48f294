//! VGG-style: pairs of 3x3 convolutions with BatchNorm and ReLU, and max pooling between them. Enters: an image. Leaves:
//! 96 channels at an eighth of the size.

use super::build::Builder;
use exporter::network::{NetworkError, Op, Pool, TensorId, Window};

pub(super) fn vgg(b: &mut Builder<'_>, image: TensorId) -> Result<TensorId, NetworkError> {
    let mut x = image;
    for (stage, channels) in [24, 48, 96].into_iter().enumerate() {
        for conv in 1..=2 {
            let name = format!("stage{}_conv{conv}", stage + 1);
            x = b.conv_norm_relu(&name, x, channels, Window::square(3, 1, 1), 1)?;
        }
        let pool = Op::MaxPool(Pool { window: Window::square(2, 2, 0) });
        x = b.network.push(format!("stage{}_pool", stage + 1), pool, &[x])?;
    }
    Ok(x)
}
