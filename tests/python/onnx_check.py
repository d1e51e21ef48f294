"""Runs the official checker and ONNX Runtime over ONNX files.

    onnx_check.py [--level default|basic|off] FILE.onnx...

Enters: ONNX files with one float input and one float output. Beside `x.onnx` may lie `x.in`: any number of images as raw
little-endian f32 in the input's layout. Leaves: `x.out`, the outputs in the same form, and for each file one line of JSON on
stdout:

    {"file": ..., "operators": {...}, "float": [...]}

`operators` counts the operators of the graph as ONNX Runtime runs it; `float` names those that compute in float, that is all
that read what a DequantizeLinear gives, other than a QuantizeLinear. Refused: whatever checker or engine refuse; their message
goes to stderr, exit code 1.
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


def session(path, level, optimized):
    """A session on one thread that also writes the graph it runs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(optimized)
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Errors only: that the optimized graph is bound to this machine is known.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


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
    """One run for each batch that the model is made for."""
    (model_input,) = engine.get_inputs()
    shape = [extent if isinstance(extent, int) else -1 for extent in model_input.shape]
    images = images.reshape([-1] + shape[1:])
    batch = shape[0] if shape[0] > 0 else len(images)
    parts = [engine.run(None, {model_input.name: images[i : i + batch]})[0] for i in range(0, len(images), batch)]
    return numpy.concatenate(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", choices=LEVELS, default="default", help="graph optimization of ONNX Runtime")
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    for path in arguments.models:
        try:
            onnx.checker.check_model(onnx.load(path), full_check=True)
            with tempfile.TemporaryDirectory() as folder:
                optimized = pathlib.Path(folder) / "optimized.onnx"
                engine = session(path, arguments.level, optimized)
                counts, in_float = operators(optimized)
            images = path.with_suffix(".in")
            if images.exists():
                run(engine, numpy.fromfile(images, "<f4")).astype("<f4").tofile(path.with_suffix(".out"))
        except Exception as error:  # checker and engine have many kinds
            print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        print(json.dumps({"file": path.name, "operators": counts, "float": in_float}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
