"""Time of one training step of the hypernetwork against PyTorch doing the same, in one interleaved run.

    python -m venv venv && venv/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu numpy
    cargo build --release
    venv/bin/python benches/peers/ghn_step.py [--ghn FILE] [--bits float] [--threads 2] [--rounds 5]

`intact ghn step --dump` says which networks, images and parameters a step reads; here the same step is written with PyTorch's
own operations: GHN-2 (one round of the gated graph network level by level, decoders that compute what is needed), each network
forward with SimQuant and BatchNorm folded by the batch, backward to the hypernetwork. The optimizer is in neither. Loss and
length of the gradient must agree before anything is timed.
"""

import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
CHANNELS = 64


def load(path):
    """Tensors of a SafeTensors file of floats."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + at for at in entry["data_offsets"])
        values = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
        tensors[name] = torch.tensor(values, requires_grad=True)
    return tensors


class Hypernetwork:
    """GHN-2 on the graph of a described step."""

    def __init__(self, step, parameters):
        self.step, self.p = step, parameters
        graph = step["graph"]
        self.op_rows = torch.tensor(graph["op_rows"])
        self.shape_rows = torch.tensor(graph["shape_rows"])
        self.directions = [self.direction(graph[name]) for name in ("along", "back")]
        starts = graph["starts"]
        self.of_net = torch.repeat_interleave(
            torch.arange(len(starts) - 1), torch.tensor([b - a for a, b in zip(starts, starts[1:])])
        )
        self.groups = self.grouped()

    @staticmethod
    def direction(graph):
        """For each level its nodes and its edges: place of the target in the level, source, distance."""
        offsets, levels = graph["offsets"], []
        for a, b in zip(graph["level_offsets"], graph["level_offsets"][1:]):
            nodes = graph["level_nodes"][a:b]
            target, source, distance = [], [], []
            for place, node in enumerate(nodes):
                edges = range(offsets[node], offsets[node + 1])
                target += [place] * len(edges)
                source += [graph["neighbours"][e] for e in edges]
                distance += [graph["distances"][e] for e in edges]
            target, source = torch.tensor(target, dtype=torch.long), torch.tensor(source, dtype=torch.long)
            distance = torch.tensor(distance, dtype=torch.float32)
            real = distance == 1
            levels.append((torch.tensor(nodes), (target, source, 1 / distance), (target[real], source[real])))
        return levels

    def grouped(self):
        """Weights with blocks of one extent are decoded together."""
        groups = {}
        for n, net in enumerate(self.step["nets"]):
            for i, parameter in enumerate(net["parameters"]):
                k, c, r, _ = parameter["shape"]
                if parameter["kind"] == "weight":
                    outputs = CHANNELS if parameter["classifier"] else min(k, CHANNELS)
                    extent = (outputs, min(c, CHANNELS), r, parameter["classifier"])
                    groups.setdefault(extent, []).append((n, i, parameter))
        return groups

    def message(self, name, x):
        p = self.p
        x = F.relu(F.linear(x, p[f"gnn.{name}.0.weight"], p[f"gnn.{name}.0.bias"]))
        return F.relu(F.linear(x, p[f"gnn.{name}.1.weight"], p[f"gnn.{name}.1.bias"]))

    def states(self):
        p = self.p
        channel, kernel = p["embed_channel"], p["embed_spatial"]
        tables = (channel, channel, kernel, kernel)
        shapes = [table[self.shape_rows[:, i]] for i, table in enumerate(tables)]
        h = p["embed"][self.op_rows] + torch.cat(shapes, 1)
        if "embed_weight_bits" in p:
            rows = [max(self.step[name] - 1, 0) for name in ("weight_bits", "activation_bits")]
            h = h + p["embed_weight_bits"][rows[0]] + p["embed_activation_bits"][rows[1]]
        for levels in self.directions:
            h = self.round(h, levels)
        return F.layer_norm(h, (h.shape[1],), p["ln.weight"], p["ln.bias"], 1e-5)

    def round(self, h, levels):
        p = self.p
        w_ih, w_hh = p["gnn.gru.weight_ih"], p["gnn.gru.weight_hh"]
        from_state = F.linear(h, w_hh, p["gnn.gru.bias_hh"])
        # Results of the levels so far, side by side, and where each node's row is.
        row_of = torch.zeros(len(h), dtype=torch.long)
        after, sent, done = [], [], 0
        for nodes, (target, source, share), (real_target, real_source) in levels:
            received = torch.zeros(len(nodes), h.shape[1])
            if len(source):
                real, every = (torch.cat([pair[i] for pair in sent]) for i in range(2))
                received = received.index_add(0, target, every[row_of[source]] * share[:, None])
                received = received.index_add(0, real_target, real[row_of[real_source]])
            r, z, n = F.linear(received, w_ih, p["gnn.gru.bias_ih"]).chunk(3, 1)
            hr, hz, hn = from_state[nodes].chunk(3, 1)
            r, z = torch.sigmoid(r + hr), torch.sigmoid(z + hz)
            new = (1 - z) * torch.tanh(n + r * hn) + z * h[nodes]
            row_of[nodes] = torch.arange(done, done + len(nodes))
            done += len(nodes)
            after.append(new)
            sent.append((self.message("mlp", new), self.message("mlp_ve", new)))
        return torch.cat(after)[row_of]

    def predict(self):
        """For each network its tensors; BatchNorm has a pair."""
        p, states = self.p, self.states()
        tensors = [[None] * len(net["parameters"]) for net in self.step["nets"]]
        grid = self.step["kernel"]
        for (outputs, inputs, kernel, classifier), items in self.groups.items():
            x = states[[parameter["node"] for _, _, parameter in items]]
            rows = p["decoder.fc.weight"].shape[0] // grid**2
            cut = (slice(None), slice(kernel), slice(kernel))
            w = p["decoder.fc.weight"].view(rows, grid, grid, -1)[cut].reshape(rows * kernel**2, -1)
            b = p["decoder.fc.bias"].view(rows, grid, grid)[cut].reshape(-1)
            x = F.relu(F.linear(x, w, b)).view(len(items), rows, -1).transpose(1, 2)
            x = F.relu(F.linear(x, p["decoder.conv.0.weight"], p["decoder.conv.0.bias"]))
            w = p["decoder.conv.1.weight"].view(CHANNELS, CHANNELS, -1)[:outputs, :inputs].reshape(outputs * inputs, -1)
            b = p["decoder.conv.1.bias"].view(CHANNELS, CHANNELS)[:outputs, :inputs].reshape(-1)
            blocks = F.linear(x, w, b).view(len(items), kernel, kernel, outputs, inputs).permute(0, 3, 4, 1, 2)
            if classifier:
                mixed = F.relu(blocks[..., 0, 0].transpose(1, 2))
                mixed = F.linear(mixed, p["decoder.class.weight"], p["decoder.class.bias"])
                blocks = mixed.transpose(1, 2)[..., None, None]
            for (n, i, parameter), block in zip(items, blocks):
                k, c, r, s = parameter["shape"]
                repeats = (-(-k // block.shape[0]), -(-c // block.shape[1]), 1, 1)
                beta = 1 if c == 1 and not parameter["linear"] else 2
                tensors[n][i] = (beta / (c * r * s)) ** 0.5 * block.repeat(repeats)[:k, :c]
        for n, net in enumerate(self.step["nets"]):
            for i, parameter in enumerate(net["parameters"]):
                if parameter["kind"] != "weight":
                    tensors[n][i] = self.vector(states[parameter["node"]], parameter)
        return tensors

    def vector(self, state, parameter):
        p, n = self.p, parameter["shape"][0]
        x = F.relu(F.linear(state, p["decoder_1d.0.weight"], p["decoder_1d.0.bias"]))
        scale, shift = F.linear(x, p["decoder_1d.1.weight"], p["decoder_1d.1.bias"]).chunk(2)
        if parameter["classifier"]:
            shift = F.linear(F.relu(shift), p["bias_class.weight"], p["bias_class.bias"])
        repeat = lambda v: v.repeat(-(-n // len(v)))[:n]
        if parameter["kind"] == "norm":
            return 2 * torch.sigmoid(repeat(scale) / 2), torch.tanh(repeat(shift) / 5)
        return torch.tanh(repeat(shift) / 5)


def fake_quantize(x, bits):
    """SimQuant from the smallest to the largest value; the gradient passes straight through."""
    low, high = torch.aminmax(x.detach())
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = (high - low) / (2**bits - 1)
    step = torch.where(step == 0, torch.ones_like(step), step)
    zero_point = torch.round(-low / step)
    q = (torch.round(x.detach() / step) + zero_point).clamp(0, 2**bits - 1)
    return x + ((q - zero_point) * step - x).detach()


class Network:
    """Runs a described network; activations are quantized where they are read, after the ReLU if there is one."""

    def __init__(self, net, weight_bits, activation_bits):
        self.layers, self.weight_bits, self.activation_bits = net["layers"], weight_bits, activation_bits
        readers = [[] for _ in range(len(self.layers) + 1)]
        for i, layer in enumerate(self.layers):
            for value in layer["inputs"]:
                readers[value].append(i)
        op = lambda i: self.layers[i]["op"]
        self.read_plain = [any(op(i) not in ("relu", "batch_norm") for i in found) for found in readers]
        # For each convolution the BatchNorm that is folded into it, with its first channel there.
        self.norm = [None] * len(self.layers)
        for i, layer in enumerate(self.layers):
            if layer["op"] != "batch_norm" or readers[layer["inputs"][0]] != [i]:
                continue
            source = layer["inputs"][0] - 1
            if op(source) == "conv":
                self.norm[source] = (layer["parameter"], 0)
            elif op(source) == "concat":
                first, parts = 0, self.layers[source]["inputs"]
                if all(part > 0 and op(part - 1) == "conv" and len(readers[part]) == 1 for part in parts):
                    for part in parts:
                        self.norm[part - 1] = (layer["parameter"], first)
                        first += self.layers[part - 1]["shape"][0]

    def folded(self, value):
        if value == 0:
            return False
        layer = self.layers[value - 1]
        if layer["op"] == "concat":
            return all(self.folded(part) for part in layer["inputs"])
        return self.norm[value - 1] is not None

    def logits(self, x, tensors):
        bits = self.activation_bits
        quantize = (lambda v: fake_quantize(v, bits)) if bits else (lambda v: v)
        values = [(x, not bits)]

        def read(value):
            v, on_grid = values[value]
            if not on_grid:
                v = quantize(v)
                values[value] = (v, True)
            return v

        for i, layer in enumerate(self.layers):
            op, inputs = layer["op"], layer["inputs"]
            if op == "relu":
                v, on_grid = values[inputs[0]]
                if not on_grid and self.read_plain[inputs[0]]:
                    out = (F.relu(quantize(v)), True)
                else:
                    out = (F.relu(v) if on_grid else quantize(F.relu(v)), True)
            elif op == "conv":
                out = (self.conv(i, layer, read(inputs[0]), tensors), not bits)
            elif op == "batch_norm":
                v = values[inputs[0]][0]
                if not (self.weight_bits and self.folded(inputs[0])):
                    gamma, beta = tensors[layer["parameter"]]
                    v = F.batch_norm(v, None, None, gamma, beta, True, 0, 1e-5)
                out = (v, not bits)
            elif op == "max_pool":
                out = (F.max_pool2d(read(inputs[0]), 3, layer["stride"], 1), True)
            elif op == "average_pool":
                v = F.avg_pool2d(read(inputs[0]), 3, layer["stride"], 1, count_include_pad=False)
                out = (quantize(v), True)
            elif op == "add":
                out = (quantize(read(inputs[0]) + read(inputs[1])), True)
            elif op == "concat":
                if all(part > 0 and self.norm[part - 1] is not None for part in inputs):
                    out = (torch.cat([values[part][0] for part in inputs], 1), not bits)
                else:
                    out = (quantize(torch.cat([read(part) for part in inputs], 1)), True)
            elif op == "zeros":
                out = (torch.zeros(len(x), *layer["shape"]), True)
            elif op == "global_average":
                out = (quantize(read(inputs[0]).mean((2, 3), keepdim=True)), True)
            elif op == "flatten":
                v, on_grid = values[inputs[0]]
                out = (v.flatten(1), on_grid)
            elif op == "linear":
                weight, bias = tensors[layer["parameter"]].flatten(1), tensors[layer["parameter"] + 1]
                if self.weight_bits:
                    weight = fake_quantize(weight, self.weight_bits)
                out = (F.linear(read(inputs[0]).flatten(1), weight, bias), not bits)
            else:
                assert op == "dropout", op
                out = values[inputs[0]]
            values.append(out)
        return values[-1][0].flatten(1)

    def conv(self, i, layer, x, tensors):
        weight = tensors[layer["parameter"]]
        if layer["shifted"]:
            x = x[:, :, 1:, 1:]
        groups = x.shape[1] if layer["depthwise"] else 1
        how = dict(stride=layer["stride"], padding=layer["padding"], dilation=layer["dilation"], groups=groups)
        if not self.weight_bits:
            return F.conv2d(x, weight, **how)
        if self.norm[i] is None:
            return F.conv2d(x, fake_quantize(weight, self.weight_bits), **how)
        parameter, first = self.norm[i]
        gamma, beta = (v[first : first + len(weight)] for v in tensors[parameter])
        y = F.conv2d(x, weight, **how)
        variance, mean = torch.var_mean(y, (0, 2, 3), correction=0)
        factor = gamma / torch.sqrt(variance + 1e-5)
        folded = fake_quantize(weight * factor[:, None, None, None], self.weight_bits)
        return F.conv2d(x, folded, beta - mean * factor, **how)


class Step:
    def __init__(self, folder, ghn):
        step = json.loads((folder / "step.json").read_text())
        self.expected = step["loss"], step["gradient_norm"]
        self.quantized = step["weight_bits"] > 0
        self.p = load(ghn)
        self.hypernetwork = Hypernetwork(step, self.p)
        self.nets = [Network(net, step["weight_bits"], step["activation_bits"]) for net in step["nets"]]
        self.labels = torch.tensor(step["labels"], dtype=torch.long)
        images = np.fromfile(folder / "images.f32", "<f4").reshape(len(self.labels), 3, 32, -1)
        self.images = torch.tensor(images)

    def run(self):
        for v in self.p.values():
            v.grad = None
        tensors = self.hypernetwork.predict()
        losses = [
            F.cross_entropy(net.logits(self.images, own), self.labels) for net, own in zip(self.nets, tensors)
        ]
        loss = torch.stack(losses).mean()
        loss.backward()
        return loss.item()

    def check(self):
        loss = self.run()
        norm = sum(float((v.grad.double() ** 2).sum()) for v in self.p.values() if v.grad is not None) ** 0.5
        found = loss, norm
        print(f"loss and gradient: PyTorch {loss:.6f} {norm:.6f}, ours {self.expected[0]:.6f} {self.expected[1]:.6f}")
        # A last bit decides which way a value is rounded, and few bits make much of it.
        tolerance = 5e-2 if self.quantized else 1e-4
        return all(abs(a - b) <= tolerance * abs(b) for a, b in zip(found, self.expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ghn", type=Path, default=ROOT / "checkpoints/ghn-edge.safetensors")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/intact")
    parser.add_argument("--bits", default="float")
    parser.add_argument("--space", default="edge")
    parser.add_argument("--nets", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    command = [a.binary, "ghn", "step", "--ghn", a.ghn, "--bits", a.bits, "--space", a.space, "--nets", a.nets]
    command += ["--batch", a.batch, "--threads", a.threads, "--seconds"]
    ours = lambda *rest: subprocess.run(
        [str(v) for v in [*command, *rest]], check=True, capture_output=True, text=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        ours(0, "--dump", folder)
        step = Step(Path(folder), a.ghn)
    if not step.check():
        sys.exit("the two steps are not the same")
    both = {"ours": [], "PyTorch": []}
    for _ in range(a.rounds):
        both["ours"].append(float(re.search(r"median ([\d.]+) ms", ours(a.seconds))[1]))
        times, began = [], time.perf_counter()
        while not times or time.perf_counter() - began < a.seconds:
            start = time.perf_counter()
            step.run()
            times.append(time.perf_counter() - start)
        both["PyTorch"].append(1e3 * float(np.median(times)))
        print(f"  ours {both['ours'][-1]:.1f} ms, PyTorch {both['PyTorch'][-1]:.1f} ms")
    middle = {name: float(np.median(found)) for name, found in both.items()}
    print(
        f"{a.nets} networks of {a.space}, {a.batch} images, {a.bits}, {a.threads} threads: ours {middle['ours']:.1f} ms, "
        f"PyTorch {torch.__version__} {middle['PyTorch']:.1f} ms, ratio {middle['ours'] / middle['PyTorch']:.2f}"
    )


if __name__ == "__main__":
    main()
