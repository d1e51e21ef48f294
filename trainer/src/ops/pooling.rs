//! The 3 x 3 pooling of cells. Enters: burn tensors. Leaves: burn tensors that know their gradient. Refuses nothing.

use super::Kernels;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use burn_autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};

/// Pooling with a gradient.
#[backend_extension(Flex, Autodiff)]
pub trait PoolOps: Backend {
    /// See [`pool3`].
    fn train_pool3(x: FloatTensor<Self>, stride: usize, average: bool) -> FloatTensor<Self>;
}

/// Maximum or average over windows of 3 x 3, padding 1; an average counts no padding.
pub fn pool3(x: Tensor<4>, stride: usize, average: bool) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::train_pool3(x.into_dispatch(), stride, average))
}

#[derive(Debug)]
struct Pool;
impl<B: Kernels> Backward<B, 1> for Pool {
    type State = (FloatTensor<B>, usize, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([node], (x, stride, average)) = (ops.parents, ops.state);
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            grads.register::<B>(node.id, B::pool3_gradient(x, dy, stride, average));
        }
    }
}

impl PoolOps for Flex {
    fn train_pool3(x: FloatTensor<Self>, stride: usize, average: bool) -> FloatTensor<Self> {
        Self::pool3_forward(x, stride, average)
    }
}

impl<B: Kernels, C: CheckpointStrategy> PoolOps for Autodiff<B, C> {
    fn train_pool3(x: FloatTensor<Self>, stride: usize, average: bool) -> FloatTensor<Self> {
        let prepared = Pool.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.into_primitive();
        let y = B::pool3_forward(x.clone(), stride, average);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((x, stride, average), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}
