"""Runs the official checker and ONNX Runtime over ONNX files.

    onnx_check.py [--level default|basic|off] [--signed] [--values] FILE.onnx...

Enters: ONNX files with one float input and one float output. Beside `x.onnx` may lie `x.in`: any number of images as raw
little-endian f32 in the input's layout. Leaves: `x.out`, the outputs in the same form, and for each file one line of JSON on
stdout:

    {"file": ..., "operators": {...}, "float": [...], "values": [[NAME, BYTES], ...]}

`operators` counts the operators of the graph as ONNX Runtime runs it; `float` names those that compute in float, that is all
that read what a DequantizeLinear gives, other than a QuantizeLinear. With `--values`, `x.values` holds every integer tensor
that the file states the type of, one byte an element, all images of one tensor together, in the order of `values`. Refused:
whatever checker or engine refuse; their message goes to stderr, exit code 1.
"""

import argparse
import collections
import json
import pathlib
import sys
import tempfile

import numpy
import onnx
import onnxruntime

LEVELS = {
    "default": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


BYTES = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
# Types narrower than a byte, and the one whose bytes stand for them: numpy has none of their width.
NARROW = {"UINT4": BYTES[0], "UINT2": BYTES[0], "INT4": BYTES[1], "INT2": BYTES[1]}
WIDENED = {getattr(onnx.TensorProto, name): wide for name, wide in NARROW.items() if hasattr(onnx.TensorProto, name)}


def with_values(model):
    """The model with its integer tensors as further outputs; their names, in order."""
    names = []
    for value in list(model.graph.value_info):
        kind = value.type.tensor_type.elem_type
        if kind in BYTES:
            model.graph.output.append(value)
        elif kind in WIDENED:
            wide = f"{value.name}_bytes"
            model.graph.node.append(onnx.helper.make_node("Cast", [value.name], [wide], to=WIDENED[kind]))
            model.graph.output.append(onnx.helper.make_tensor_value_info(wide, WIDENED[kind], None))
        else:
            continue
        names.append(value.name)
    return model, names


def session(model, level, signed, optimized):
    """A session on one thread that also writes the graph it runs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    if signed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.optimized_model_filepath = str(optimized)
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Errors only: that the optimized graph is bound to this machine is known.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def operators(path):
    """Operators of a graph, and those of them that compute in float."""
    graph = onnx.load(path).graph
    counts = collections.Counter(node.op_type for node in graph.node)
    dequantized = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    in_float = [
        f"{node.op_type} {node.name}"
        for node in graph.node
        if node.op_type != "QuantizeLinear" and dequantized.intersection(node.input)
    ]
    return dict(sorted(counts.items())), in_float


def run(engine, images):
    """Every output of every image; one run for each batch that the model is made for."""
    (model_input,) = engine.get_inputs()
    shape = [extent if isinstance(extent, int) else -1 for extent in model_input.shape]
    images = images.reshape([-1] + shape[1:])
    batch = shape[0] if shape[0] > 0 else len(images)
    parts = [engine.run(None, {model_input.name: images[i : i + batch]}) for i in range(0, len(images), batch)]
    return [numpy.concatenate(part) for part in zip(*parts)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", choices=LEVELS, default="default", help="graph optimization of ONNX Runtime")
    parser.add_argument("--signed", action="store_true", help="fuse signed activations too, as on ARM64")
    parser.add_argument("--values", action="store_true", help="write every integer tensor")
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    for path in arguments.models:
        try:
            model = onnx.load(path)
            onnx.checker.check_model(model, full_check=True)
            model, names = with_values(model) if arguments.values else (model, [])
            with tempfile.TemporaryDirectory() as folder:
                optimized = pathlib.Path(folder) / "optimized.onnx"
                engine = session(model, arguments.level, arguments.signed, optimized)
                counts, in_float = operators(optimized)
            images = path.with_suffix(".in")
            if images.exists():
                output, *values = run(engine, numpy.fromfile(images, "<f4"))
                output.astype("<f4").tofile(path.with_suffix(".out"))
                path.with_suffix(".values").write_bytes(b"".join(value.tobytes() for value in values))
                sizes = [value.size for value in values]
        except Exception as error:  # checker and engine have many kinds
            print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        values = list(zip(names, sizes)) if images.exists() else []
        print(json.dumps({"file": path.name, "operators": counts, "float": in_float, "values": values}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
