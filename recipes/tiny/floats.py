"""Kokoro's eight-bit graph with float weights, for processors that multiply bfloat16 fast.

The packages hold its products dynamically quantised, which onnxruntime computes in 0.6 s for a
second of sound. The same weights as floats take 0.3 s in OpenVINO, in bfloat16 on a core with AMX
(decision 084).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper


def float_graph(path: Path) -> onnx.ModelProto:
    """Return the graph with floats for quantised products, and with standard operators only."""
    model = onnx.load(str(path))
    floats = Floats(model.graph)
    nodes = [new for node in model.graph.node for new in floats.rewritten(node)]
    keep_used(model.graph, [node for node in nodes if id(node) not in floats.gone])
    standard = [entry for entry in model.opset_import if not entry.domain]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    return model


class Floats:
    """Replaces the nodes of a quantised graph, one by one."""

    def __init__(self, graph: onnx.GraphProto):
        self.graph = graph
        self.weights = {w.name: w for w in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output}
        self.users: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.gone: set[int] = set()  # nodes that turned an integer product into floats

    def rewritten(self, node: NodeProto) -> Iterator[NodeProto]:
        if node.op_type in ("ConvInteger", "MatMulInteger"):
            yield self.product(node)
        elif node.op_type == "DynamicQuantizeLSTM":
            yield self.lstm(node)
        elif node.op_type == "FastGelu":
            yield from self.gelu(node)
        elif node.op_type == "SkipLayerNormalization":
            yield from self.added_and_normalised(node)
        elif node.op_type == "FusedMatMul":
            yield from self.transposed_product(node)
        else:
            yield node

    def array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.weights[name]).astype(np.float32)

    def stored(self, values: Any, name: str) -> str:
        """The name of a new weight."""
        self.graph.initializer.append(numpy_helper.from_array(np.float32(values), name))
        return name

    def product(self, node: NodeProto) -> NodeProto:
        """One product or convolution of floats for integer product, bias, cast and scale."""
        data, bias = self.maker[node.input[0]].input[0], []
        (after,) = self.users[node.output[0]]
        if after.op_type == "Add":
            self.gone.add(id(after))
            bias = [self.bias(next(name for name in after.input if name != node.output[0]))]
            (after,) = self.users[after.output[0]]
        (scaled,) = self.users[after.output[0]]
        self.gone |= {id(after), id(scaled)}
        scales = self.maker[next(name for name in scaled.input if name != after.output[0])]
        (scale,) = (name for name in scales.input if name in self.weights)
        weight = (self.array(node.input[1]) - self.array(node.input[3])) * self.array(scale)
        kind = "Conv" if node.op_type == "ConvInteger" else "MatMul"
        name = self.stored(weight, f"{node.name}/float")
        made = helper.make_node(kind, [data, name, *bias], [scaled.output[0]], name=node.name)
        made.attribute.extend(node.attribute)
        return made

    def bias(self, name: str) -> str:
        """The float bias that was divided by its scale and rounded."""
        node = self.maker[name]
        while node.op_type != "Div":
            node = self.maker[node.input[0]]
        return node.input[0]

    def lstm(self, node: NodeProto) -> NodeProto:
        """The standard LSTM: weights as (directions, 4 × hidden, inputs)."""
        values, zeros = node.input[1:3], node.input[9:12:2]
        parts = zip(values, node.input[8:12:2], zeros, strict=True)
        names = [
            self.stored(
                ((self.array(v) - self.row(z)) * self.row(s)).transpose(0, 2, 1), f"{v}/float"
            )
            for v, s, z in parts
        ]
        inputs = [node.input[0], *names, *node.input[3:8]]
        while not inputs[-1]:
            inputs.pop()
        made = helper.make_node("LSTM", inputs, node.output, name=node.name)
        made.attribute.extend(node.attribute)
        return made

    def row(self, name: str) -> np.ndarray:
        """One value a direction, or one a direction and column."""
        values = self.array(name)
        return values.reshape(len(values), 1, -1)

    def gelu(self, node: NodeProto) -> Iterator[NodeProto]:
        """x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2, after its bias."""
        name, x = node.name, node.input[0]
        if len(node.input) > 1 and node.input[1]:
            x = f"{name}/x"
            yield helper.make_node("Add", node.input[:2], [x])
        steps = [
            ("Mul", x, x),
            ("Mul", f"{name}/0", self.stored(0.044715, f"{name}/cubic")),
            ("Add", f"{name}/1", self.stored(1.0, f"{name}/one")),
            ("Mul", f"{name}/2", x),
            ("Mul", f"{name}/3", self.stored((2 / np.pi) ** 0.5, f"{name}/scale")),
            ("Tanh", f"{name}/4"),
            ("Add", f"{name}/5", f"{name}/one"),
            ("Mul", f"{name}/6", x),
            ("Mul", f"{name}/7", self.stored(0.5, f"{name}/half")),
        ]
        for number, (kind, *inputs) in enumerate(steps):
            last = number == len(steps) - 1
            yield helper.make_node(kind, inputs, [node.output[0] if last else f"{name}/{number}"])

    def added_and_normalised(self, node: NodeProto) -> Iterator[NodeProto]:
        """Layer norm of a sum of two, and of a bias where there is one."""
        first, second, weight, bias, *more = node.input
        total = f"{node.name}/sum"
        yield helper.make_node("Add", [first, second], [total])
        if more and more[0]:
            total, before = f"{node.name}/biased", total
            yield helper.make_node("Add", [before, more[0]], [total])
        epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
        yield helper.make_node(
            "LayerNormalization", [total, weight, bias], node.output[:1], axis=-1, epsilon=epsilon
        )
        if len(node.output) > 3:
            yield helper.make_node("Identity", [total], node.output[3:4])

    def transposed_product(self, node: NodeProto) -> Iterator[NodeProto]:
        first, second = node.input
        yield helper.make_node("Transpose", [first], [f"{node.name}/T"], perm=[0, 2, 1])
        yield helper.make_node("MatMul", [f"{node.name}/T", second], node.output)


def keep_used(graph: onnx.GraphProto, nodes: list[NodeProto]) -> None:
    """Return the graph with these nodes, without nodes and weights that nothing reads any more."""
    before = len(nodes) + 1
    while len(nodes) < before:
        before = len(nodes)
        used = {name for node in nodes for name in node.input} | {o.name for o in graph.output}
        nodes = [node for node in nodes if used.intersection(node.output)]
    weights = [w for w in graph.initializer if w.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
