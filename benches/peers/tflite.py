"""Writes an ONNX file as a TensorFlow Lite file with the same numbers, for LiteRT: `intact export --preset xnnpack` (QDQ, signed), or floats.

    python tflite.py MODEL.onnx MODEL.tflite

Reads what the networks of `nets.py` and `intact export` are made of: Conv, Relu, Add, MaxPool, GlobalAveragePool, Flatten and Gemm, each
between QuantizeLinear and DequantizeLinear in a file of integers. Anything else is refused. Layouts become those of TensorFlow: images
`N H W C`, weights `K R S C`, depthwise weights `1 R S C`. Input and output of a file of integers are its integers.
"""

import sys
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

TYPES = {np.dtype(np.float32): 0, np.dtype(np.int32): 2, np.dtype(np.int8): 9}
# The first version of each operator that takes bytes with a sign, and weights with a scale for each channel.
VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "ADD": 2, "MAX_POOL_2D": 2, "MEAN": 2, "PAD": 2, "FULLY_CONNECTED": 12}
NONE, RELU = 0, 1
SAME, VALID = 0, 1


def code(name):
    return getattr(schema.BuiltinOperator, name)


class Writer:
    """A TensorFlow Lite graph in the making."""

    def __init__(self, name):
        self.graph, self.model = schema.SubGraphT(), schema.ModelT()
        self.graph.name, self.graph.tensors, self.graph.operators = name, [], []
        self.model.version, self.model.description, self.model.operatorCodes = 3, name, []
        # The first buffer is the empty one.
        self.model.buffers, self.model.subgraphs = [schema.BufferT()], [self.graph]

    def tensor(self, name, shape, dtype, encoding=None, axis=0, values=None):
        """A tensor's index. `encoding`: scales and zero points, along `axis` if there are several."""
        t = schema.TensorT()
        t.name, t.shape, t.type, t.buffer = name, list(shape), TYPES[np.dtype(dtype)], 0
        if encoding is not None:
            scale, zero = (np.atleast_1d(part) for part in encoding)
            t.quantization = schema.QuantizationParametersT()
            t.quantization.scale = scale.astype(np.float32)
            t.quantization.zeroPoint = np.broadcast_to(zero, scale.shape).astype(np.int64)
            t.quantization.quantizedDimension = axis
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            t.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def op(self, name, inputs, output, kind=None, **options):
        """An operator with the options of that kind."""
        found = [c.builtinCode for c in self.model.operatorCodes]
        if code(name) not in found:
            c = schema.OperatorCodeT()
            c.builtinCode, c.deprecatedBuiltinCode, c.version = code(name), min(code(name), 127), VERSIONS[name]
            self.model.operatorCodes.append(c)
            found.append(c.builtinCode)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = found.index(code(name)), inputs, [output]
        if kind:
            op.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            op.builtinOptions = getattr(schema, kind + "T")()
            for key, value in options.items():
                assert hasattr(op.builtinOptions, key), (kind, key)
                setattr(op.builtinOptions, key, value)
        self.graph.operators.append(op)

    def bytes(self, inputs, outputs):
        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class Converter:
    """Walks the nodes in their order; a value is known by its tensor once it has been made."""

    def __init__(self, model):
        self.graph = onnx.shape_inference.infer_shapes(model).graph
        self.constants = {i.name: numpy_helper.to_array(i) for i in self.graph.initializer}
        values = list(self.graph.input) + list(self.graph.value_info) + list(self.graph.output)
        self.shapes = {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in values}
        self.readers = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.integers = any(node.op_type == "QuantizeLinear" for node in self.graph.node)
        self.writer = Writer(self.graph.name)
        # Of each value its tensor, its encoding and its shape, `N H W C`; of each dequantized constant its integers and its encoding.
        self.tensors, self.weights, self.done = {}, {}, set()
        self.input = None

    def reader(self, name, op):
        """The one node of that kind that reads a value, and nothing else does."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].op_type == op else None

    def result(self, node, shape=None):
        """The tensor of what a node computes, behind its Relu and QuantizeLinear, and the Relu."""
        name, activation = node.output[0], NONE
        shape = shape or self.layout(self.shapes[name])
        relu = self.reader(name, "Relu")
        if relu:
            self.done.add(relu.output[0])
            name, activation = relu.output[0], RELU
        if not self.integers:
            self.tensors[name] = (self.writer.tensor(name, shape, np.float32), None, shape)
            return self.tensors[name][0], activation
        quantize = self.reader(name, "QuantizeLinear")
        if quantize is None:
            sys.exit(f"{self.graph.name}: {node.op_type} of {name}: expected one QuantizeLinear behind it")
        self.done.add(quantize.output[0])
        return self.quantized(quantize, shape), activation

    def quantized(self, quantize, shape):
        name, encoding = quantize.output[0], self.encoding(quantize)
        self.tensors[name] = (self.writer.tensor(name, shape, np.int8, encoding), encoding, shape)
        return self.tensors[name][0]

    def encoding(self, node):
        return [self.constants[name] for name in node.input[1:3]]

    @staticmethod
    def layout(shape):
        return [shape[0], shape[2], shape[3], shape[1]] if len(shape) == 4 else list(shape)

    def constant(self, name, values, order, axis):
        """A tensor of weights in another order of axes; `axis` is that of its scales."""
        integers, encoding = self.weights.get(name, (self.constants.get(name), None))
        values = integers if values is None else values
        values = values.reshape(-1) if order is None else values.transpose(order)
        return self.writer.tensor(name, values.shape, values.dtype, encoding, axis, values)

    def padded(self, node, x, window, strides):
        """An input as a window without padding reads it, or SAME where that is what the padding is."""
        tensor, encoding, shape = self.tensors[x]
        pads = attributes(node).get("pads", [0] * 4)
        wanted = [max(0, (-(-size // s) - 1) * s + k - size) for size, s, k in zip(shape[1:3], strides, window)]
        if not any(pads):
            return tensor, VALID
        if pads == [w // 2 for w in wanted] + [w - w // 2 for w in wanted]:
            return tensor, SAME
        grown = [shape[0], shape[1] + pads[0] + pads[2], shape[2] + pads[1] + pads[3], shape[3]]
        dtype = np.int8 if self.integers else np.float32
        out = self.writer.tensor(f"{x}_padded_{node.output[0]}", grown, dtype, encoding)
        amounts = np.array([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], np.int32)
        amounts = self.writer.tensor(f"{node.output[0]}_pads", amounts.shape, np.int32, values=amounts)
        self.writer.op("PAD", [tensor, amounts], out, "PadOptions")
        return out, VALID

    def conv(self, node):
        x, w, b = node.input
        group, strides = attributes(node).get("group", 1), attributes(node).get("strides", [1, 1])
        weights = self.weights.get(w, (self.constants.get(w), None))[0]
        x, padding = self.padded(node, x, weights.shape[2:], strides)
        depthwise = group == weights.shape[0] and weights.shape[1] == 1 and group > 1
        if group > 1 and not depthwise or any(d != 1 for d in attributes(node).get("dilations", [1, 1])):
            sys.exit(f"{self.graph.name}: {node.output[0]}: neither a plain nor a depthwise convolution")
        bias = self.constant(b, None, None, 0)
        y, activation = self.result(node)
        options = {"padding": padding, "strideH": strides[0], "strideW": strides[1], "fusedActivationFunction": activation}
        if depthwise:
            w = self.constant(w, None, (1, 2, 3, 0), 3)
            self.writer.op("DEPTHWISE_CONV_2D", [x, w, bias], y, "DepthwiseConv2DOptions", depthMultiplier=1, **options)
        else:
            w = self.constant(w, None, (0, 2, 3, 1), 0)
            self.writer.op("CONV_2D", [x, w, bias], y, "Conv2DOptions", **options)

    def add(self, node):
        inputs = [self.tensors[name][0] for name in node.input]
        y, activation = self.result(node)
        self.writer.op("ADD", inputs, y, "AddOptions", fusedActivationFunction=activation)

    def max_pool(self, node):
        window, strides = attributes(node)["kernel_shape"], attributes(node)["strides"]
        x, padding = self.padded(node, node.input[0], window, strides)
        y, _ = self.result(node)
        options = {"filterHeight": window[0], "filterWidth": window[1], "strideH": strides[0], "strideW": strides[1]}
        self.writer.op("MAX_POOL_2D", [x], y, "Pool2DOptions", padding=padding, **options)

    def mean(self, node):
        x, _, shape = self.tensors[node.input[0]]
        y, _ = self.result(node, [shape[0], shape[3]])
        axes = self.writer.tensor(f"{node.output[0]}_axes", [2], np.int32, values=np.array([1, 2], np.int32))
        self.writer.op("MEAN", [x, axes], y, "ReducerOptions", keepDims=False)

    def dense(self, node):
        x, w, b = node.input
        if attributes(node).get("transB", 0) != 1:
            sys.exit(f"{self.graph.name}: {node.output[0]}: Gemm without transB")
        bias = self.constant(b, None, None, 0)
        w = self.constant(w, None, (0, 1), 0)
        y, activation = self.result(node)
        options = {"fusedActivationFunction": activation, "weightsFormat": 0}
        self.writer.op("FULLY_CONNECTED", [self.tensors[x][0], w, bias], y, "FullyConnectedOptions", **options)

    def same(self, node):
        """A value that is already there under another name: images of one pixel have no layout."""
        self.tensors[node.output[0]] = self.tensors[node.input[0]]

    def quantize(self, node):
        x = node.input[0]
        if node.output[0] in self.done:
            return
        if x == self.graph.input[0].name:
            self.input = self.quantized(node, self.layout(self.shapes[x]))
        elif x in self.tensors and len(self.tensors[x][2]) == 2:
            self.same(node)
        else:
            sys.exit(f"{self.graph.name}: QuantizeLinear of {x}: expected an operator before it")

    def dequantize(self, node):
        x = node.input[0]
        if x in self.constants:
            self.weights[node.output[0]] = (self.constants[x], self.encoding(node))
        else:
            self.same(node)

    def convert(self):
        ops = {"Conv": self.conv, "Add": self.add, "MaxPool": self.max_pool, "GlobalAveragePool": self.mean, "Gemm": self.dense}
        ops |= {"Flatten": self.same, "Reshape": self.same, "QuantizeLinear": self.quantize, "DequantizeLinear": self.dequantize}
        if not self.integers:
            name = self.graph.input[0].name
            shape = self.layout(self.shapes[name])
            self.input = self.writer.tensor(name, shape, np.float32)
            self.tensors[name] = (self.input, None, shape)
        for node in self.graph.node:
            if node.op_type == "Relu" and node.output[0] in self.done:
                continue
            if node.op_type not in ops:
                sys.exit(f"{self.graph.name}: found {node.op_type}, expected one of {', '.join(ops)}")
            ops[node.op_type](node)
        return self.writer.bytes([self.input], [self.tensors[self.graph.output[0].name][0]])


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def convert(source, target):
    """Reads ONNX, writes TensorFlow Lite."""
    Path(target).write_bytes(Converter(onnx.load(str(source))).convert())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python tflite.py MODEL.onnx MODEL.tflite")
    if not Path(sys.argv[1]).is_file():
        sys.exit(f"{sys.argv[1]}: no such file, expected ONNX")
    convert(*sys.argv[1:])
