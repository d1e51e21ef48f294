//! ResNet-8 of MLPerf Tiny: three residual stacks of 16, 32 and 64 channels. Enters: an image. Leaves: 64 channels at a
//! quarter of the size. The shortcuts of the second and third stack have a BatchNorm of their own, so that both
//! operands of the sum are normalized.

use super::build::Builder;
use exporter::network::{NetworkError, Op, TensorId, Window};

pub(super) fn resnet8(b: &mut Builder<'_>, image: TensorId) -> Result<TensorId, NetworkError> {
    let mut x = b.conv_norm_relu("stem", image, 16, Window::square(3, 1, 1), 1)?;
    for (stack, (channels, stride)) in [(16, 1), (32, 2), (64, 2)].into_iter().enumerate() {
        let name = |part: &str| format!("stack{}_{part}", stack + 1);
        let inner = b.conv_norm_relu(&name("conv1"), x, channels, Window::square(3, stride, 1), 1)?;
        let inner = b.conv_norm(&name("conv2"), inner, channels, Window::square(3, 1, 1), 1)?;
        let shortcut = match stride {
            1 => x,
            _ => b.conv_norm(&name("shortcut"), x, channels, Window::square(1, stride, 0), 1)?,
        };
        let sum = b.network.push(name("add"), Op::Add, &[inner, shortcut])?;
        x = b.network.push(name("relu"), Op::RELU, &[sum])?;
    }
    Ok(x)
}
