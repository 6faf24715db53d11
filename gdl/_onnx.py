"""Models as ONNX graphs, which other runtimes and languages compute: predictions only, not what it takes to go on."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.utils.validation import check_is_fitted

from gdl._files import whole_file
from gdl.kernels import layout

#: Operators as of 2021, and the file version that belongs to them: old enough for every runtime that is in use.
OPSET, IR_VERSION = 17, 8
#: A protocol buffer holds no more.
MOST_BYTES = 2**31 - 2**20


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write what ``FileMixin.to_onnx`` writes."""
    check_is_fitted(model)
    is_network = hasattr(model, "parameters_")
    values = model.parameters_ if is_network else model.cluster_centers_
    if values.nbytes > MOST_BYTES:
        raise ValueError(f"The model has {values.nbytes:,} bytes, but an ONNX file holds at most 2 GiB; use save.")
    graph = Graph(values.dtype)
    if not is_network:
        add_clusters(graph, model)
    elif hasattr(model, "classes_"):
        add_classifier(graph, model)
    else:
        graph.output("variable", add_layers(graph, model), graph.type)
    content = graph.model(model)
    onnx.checker.check_model(content)
    with whole_file(path) as file:
        file.write(content.SerializeToString())


class Graph:
    """Nodes that compute in one type, from the input ``X``."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.type = helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.outputs: list[Any] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator, and return the name of its output."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = None) -> str:
        """Add numbers, of the graph's type by default, and return their name."""
        array = np.asarray(values, self.dtype if dtype is None else dtype)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def cast(self, name: str, to: int) -> str:
        """Add a conversion."""
        return self.node("Cast", name, to=to)

    def output(self, name: str, of: str, type_: int, n_dimensions: int = 2) -> None:
        """Make a node's output the graph's."""
        self.nodes.append(helper.make_node("Identity", [of], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, type_, ["n_samples", None][:n_dimensions]))

    def model(self, estimator: Any) -> Any:
        """Return the graph as an ONNX model."""
        import gdl

        X = helper.make_tensor_value_info("X", self.type, ["n_samples", int(estimator.n_features_in_)])
        name = type(estimator).__name__
        graph = helper.make_graph(self.nodes, name, [X], self.outputs, self.constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="gdl",
            producer_version=gdl.__version__,
        )
        if "feature_names_in_" in vars(estimator):
            helper.set_model_props(model, {"feature_names": json.dumps(estimator.feature_names_in_.tolist())})
        return model


# Networks.


def add_layers(graph: Graph, model: Any) -> str:
    """Add all layers, and return the name of the last one's outputs."""
    names = {code: name for name, code in layout.ACTIVATIONS.items()}
    intercepts = model.intercepts_ or [None] * len(model.coefs_)
    A = "X"
    for W, b, code in zip(model.coefs_, intercepts, model._layers[:, layout.ACTIVATION].tolist(), strict=True):
        weights = [graph.constant(W)] if b is None else [graph.constant(W), graph.constant(b)]
        A = add_activation(graph, names[code], graph.node("Gemm", A, *weights))
    return A


def add_activation(graph: Graph, name: str, z: str) -> str:
    """Add an activation function, from operators that onnxruntime computes in both types."""
    simple = {"identity": "Identity", "relu": "Relu", "logistic": "Sigmoid", "tanh": "Tanh", "exp": "Exp"}
    if name in simple:
        return graph.node(simple[name], z)
    if name == "softmax":
        return graph.node("Softmax", z, axis=1)
    if name == "leaky_relu":  # the operator LeakyRelu has its slope in float32
        return graph.node("Max", z, graph.node("Mul", z, graph.constant(layout.LEAKY_SLOPE)))
    if name == "silu":
        return graph.node("Mul", z, graph.node("Sigmoid", z))
    one = graph.constant(1.0)
    if name == "elu":
        zero = graph.constant(0.0)
        below = graph.node("Sub", graph.node("Exp", graph.node("Min", z, zero)), one)
        return graph.node("Where", graph.node("Less", z, zero), below, z)
    if name == "softplus":
        tail = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
        return graph.node("Add", graph.node("Relu", z), graph.node("Log", graph.node("Add", one, tail)))
    assert name == "gelu", name
    # onnxruntime has the error function in float32 only, which leaves 7 digits.
    scaled = graph.node("Mul", z, graph.constant(math.sqrt(0.5)))
    erf = graph.cast(graph.node("Erf", graph.cast(scaled, TensorProto.FLOAT)), graph.type)
    return graph.node("Mul", graph.node("Mul", z, graph.constant(0.5)), graph.node("Add", one, erf))


def add_classifier(graph: Graph, model: Any) -> None:
    """Add the outputs ``label`` and ``probabilities``."""
    P = add_layers(graph, model)
    if model._target.multilabel:
        is_positive = graph.node("Greater", P, graph.constant(0.5))
        graph.output("label", graph.cast(is_positive, TensorProto.INT64), TensorProto.INT64)
        graph.output("probabilities", P, graph.type)
        return
    if len(model.classes_) == 2:
        flat = graph.node("Reshape", P, graph.constant([-1], np.int64))
        number = graph.cast(graph.node("Greater", flat, graph.constant(0.5)), TensorProto.INT64)
        P = graph.node("Concat", graph.node("Sub", graph.constant(1.0), P), P, axis=1)
    else:
        number = graph.node("ArgMax", P, axis=1, keepdims=0)
    classes, type_ = labels_of(model.classes_)
    label = graph.node("Gather", graph.constant(classes, classes.dtype), number)
    graph.output("label", label, type_, n_dimensions=1)
    graph.output("probabilities", P, graph.type)


def labels_of(classes: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return class labels as ONNX has them, and their type there."""
    if all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object), TensorProto.STRING
    if classes.dtype.kind in "iu":
        return classes.astype(np.int64), TensorProto.INT64
    if classes.dtype.kind == "b":
        return classes, TensorProto.BOOL
    if classes.dtype.kind == "f":
        return classes.astype(np.float64), TensorProto.DOUBLE
    raise ValueError(
        f"classes_ has labels of type {classes.dtype}, but ONNX has strings, numbers and bools; fit with such labels."
    )


# Clusters.


def add_clusters(graph: Graph, model: Any) -> None:
    """Add the outputs ``label`` and ``scores``, the distance to each center."""
    is_cosine = model._metric == "cosine"
    X = add_directions(graph) if is_cosine else "X"
    squares = add_squared_distances(graph, X, model.cluster_centers_)
    distances = graph.node("Mul", squares, graph.constant(0.5)) if is_cosine else graph.node("Sqrt", squares)
    label = graph.node("ArgMin", squares, axis=1, keepdims=0)
    graph.output("label", label, TensorProto.INT64, n_dimensions=1)
    graph.output("scores", distances, graph.type)


def add_squared_distances(graph: Graph, X: str, centers: NDArray[Any]) -> str:
    """Add the squared distance of each sample to each center, from differences.

    One center after the other (Scan), so that there is never more than one array of X's size. From products, as a
    matrix product would have them, nothing is left of the distances of samples that lie far from zero.
    """
    body = helper.make_graph(
        [
            helper.make_node("Sub", [X, "center"], ["difference"]),
            helper.make_node("Mul", ["difference", "difference"], ["products"]),
            helper.make_node("ReduceSum", ["products", "features"], ["squares"], keepdims=0),
        ],
        "squared_distances_to_a_center",
        [helper.make_tensor_value_info("center", graph.type, [centers.shape[1]])],
        [helper.make_tensor_value_info("squares", graph.type, ["n_samples"])],
        [numpy_helper.from_array(np.array([1]), "features")],
    )
    by_center = graph.node("Scan", graph.constant(centers), num_scan_inputs=1, body=body)
    return graph.node("Transpose", by_center, perm=[1, 0])


def add_directions(graph: Graph) -> str:
    """Add rows of length 1, in float64 and divided by their largest number first, as gdl has them; 0 stays 0."""
    rows = graph.cast("X", TensorProto.DOUBLE)
    one, zero = graph.constant(1.0, np.float64), graph.constant(0.0, np.float64)
    for size in ("largest", "length"):
        if size == "largest":
            sizes = graph.node("ReduceMax", graph.node("Abs", rows), axes=[1], keepdims=1)
        else:
            squares = graph.node("ReduceSum", graph.node("Mul", rows, rows), graph.constant([1], np.int64), keepdims=1)
            sizes = graph.node("Sqrt", squares)
        divisor = graph.node("Where", graph.node("Greater", sizes, zero), sizes, one)
        rows = graph.node("Div", rows, divisor)
    return graph.cast(rows, graph.type)
