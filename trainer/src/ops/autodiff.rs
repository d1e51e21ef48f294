//! The tape's side of [`super::TrainOps`]: one node for each operation, whose state is what its gradient reads. Enters and
//! leaves: tensors on the tape.

use super::{Kernels, NormOptions, OPEN, Quantizer, TrainOps};
use burn::backend::{Autodiff, AutodiffBackend, TensorMetadata, tensor::FloatTensor};
use burn_autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use exporter::network::Window;

#[derive(Debug)]
struct Conv;
impl<B: Kernels> Backward<B, 2> for Conv {
    type State = (FloatTensor<B>, FloatTensor<B>, Window, usize);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([x_node, weight_node], (x, weight, window, groups)) = (ops.parents, ops.state);
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = weight_node {
            let dw = B::conv2d_weight_gradient(x.clone(), weight.clone(), dy.clone(), window, groups);
            grads.register::<B>(node.id, dw);
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::conv2d_input_gradient(x, weight, dy, window, groups));
        }
    }
}

#[derive(Debug)]
struct Norm;
impl<B: Kernels> Backward<B, 3> for Norm {
    type State = ([FloatTensor<B>; 4], NormOptions);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([x_node, gamma_node, beta_node], ([x, gamma, beta, statistics], options)) = (ops.parents, ops.state);
        let c = gamma.shape()[0];
        let dy = grads.consume::<B>(&ops.node);
        let (dx, parameters) = B::norm_gradient(x, gamma, beta, statistics, dy, options);
        for (node, range) in [(gamma_node, 0..c), (beta_node, c..2 * c)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, B::float_slice(parameters.clone(), &[range.into()]));
            }
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, dx);
        }
    }
}

#[derive(Debug)]
struct FakeQuantize;
impl<B: Kernels> Backward<B, 1> for FakeQuantize {
    type State = (FloatTensor<B>, Quantizer);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([node], (x, quantizer)) = (ops.parents, ops.state);
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            grads.register::<B>(node.id, B::fake_quantize_gradient(x, dy, quantizer));
        }
    }
}

#[derive(Debug)]
struct StraightThrough;
impl<B: Kernels> Backward<B, 1> for StraightThrough {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([node], mask) = (ops.parents, ops.state);
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            grads.register::<B>(node.id, B::float_mul(dy, mask));
        }
    }
}

#[derive(Debug)]
struct Add;
impl<B: Kernels> Backward<B, 2> for Add {
    type State = (FloatTensor<B>, [f32; 2]);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (y, limits) = ops.state;
        let dy = grads.consume::<B>(&ops.node);
        let dx = if limits == OPEN { dy } else { B::clamp_gradient(y, dy, limits) };
        for node in ops.parents.into_iter().flatten() {
            grads.register::<B>(node.id, dx.clone());
        }
    }
}

#[derive(Debug)]
struct Clamp;
impl<B: Kernels> Backward<B, 1> for Clamp {
    type State = (FloatTensor<B>, [f32; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([node], (y, limits)) = (ops.parents, ops.state);
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            grads.register::<B>(node.id, B::clamp_gradient(y, dy, limits));
        }
    }
}

#[derive(Debug)]
struct MaxPool2;
impl<B: Kernels> Backward<B, 1> for MaxPool2 {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            grads.register::<B>(node.id, B::max_pool2_gradient(ops.state, dy));
        }
    }
}

impl<B: Kernels, C: CheckpointStrategy> TrainOps for Autodiff<B, C> {
    fn train_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self> {
        let prepared = Conv.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful();
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let y = B::conv2d_forward(x.clone(), weight.clone(), window, groups);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((x, weight, window, groups), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn train_survey(x: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::survey(x.into_primitive()))
    }

    fn train_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        options: NormOptions,
    ) -> FloatTensor<Self> {
        let prepared = Norm.prepare::<C>([x.node(), gamma.node(), beta.node()]).compute_bound().stateful();
        let all = [x, gamma, beta, statistics].map(|t| t.into_primitive());
        let [x, gamma, beta, statistics] = all.clone();
        let y = B::norm_forward(x, gamma, beta, statistics, options);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((all, options), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn train_fake_quantize(x: FloatTensor<Self>, quantizer: Quantizer) -> FloatTensor<Self> {
        let prepared = FakeQuantize.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.into_primitive();
        let y = B::fake_quantize_forward(x.clone(), quantizer);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((x, quantizer), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn train_straight_through(
        x: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        match StraightThrough.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(mask.into_primitive(), value.into_primitive()),
            OpsKind::UnTracked(prepared) => prepared.finish(value.into_primitive()),
        }
    }

    fn train_add(a: FloatTensor<Self>, b: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self> {
        let prepared = Add.prepare::<C>([a.node(), b.node()]).compute_bound().stateful();
        let y = B::add_forward(a.into_primitive(), b.into_primitive(), limits);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((y.clone(), limits), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn train_clamp(x: FloatTensor<Self>, limits: [f32; 2]) -> FloatTensor<Self> {
        let prepared = Clamp.prepare::<C>([x.node()]).compute_bound().stateful();
        let y = B::clamp_forward(x.into_primitive(), limits);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((y.clone(), limits), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn train_max_pool2(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = MaxPool2.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.into_primitive();
        let y = B::max_pool2_forward(x.clone());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(x, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn train_range(x: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::range(x.into_primitive()))
    }

    fn train_quantiles(x: FloatTensor<Self>, cut: f32) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::quantiles(x.into_primitive(), cut))
    }
}
