"""How integer operators run inside MXNet, exactly.

A saved integer graph holds the runtime's own operators as `Custom` nodes (`op_type` cvm_clip, cvm_right_shift, ...). They are
registered here, so that MXNet loads and infers such symbols. To execute one, `lower` replaces them by MXNet's native
operators in float64: every integer of a quantized graph fits 32 bits, every product and sum of the graph therefore 53, so
float64 computes them without rounding, in any order, and no Python callback slows a batch.
"""
from mrt.arithmetic import code_range
from mrt.execute import to_block
from mrt.graph import Entry, Graph, Names, Node
from mrt.mxnet_bridge import mx

__all__ = ["is_integer", "lower"]


def is_integer(graph):
    """Is this a quantized graph? Its input then declares a precision."""
    return any("precision" in node.attrs for node in graph.inputs())


def lower(graph):
    """The same graph in native float64 operators; inputs of any type are cast."""
    names = Names(node.name for node in graph.topological())

    def add(op, name, entry, **attrs):
        return Entry(Node(op, name, [entry], attrs), 0)

    def clip(node, entry):
        limit = code_range(node.int("precision"))
        return between(node, entry, -limit, limit)

    def scaled(node, entry, factor):
        return add("_mul_scalar", names.fresh("simulate", node.name), entry, scalar=repr(factor))

    def between(node, entry, low, high):
        above = add("_maximum_scalar", names.fresh("simulate", node.name), entry, scalar=repr(float(low)))
        return add("_minimum_scalar", node.name, above, scalar=repr(float(high)))

    def visit(node, inputs):
        if node.is_variable:
            if graph.is_param(node):
                return Node(node.op, node.name)
            return add("Cast", names.fresh("simulate", node.name), Entry(node, 0), dtype="float64")
        if node.kind == "cvm_clip":
            return clip(node, inputs[0])
        if node.kind == "cvm_left_shift":
            return clip(node, scaled(node, inputs[0], 2.0 ** node.int("shift_bit")))
        if node.kind == "cvm_right_shift":  # floor(x / 2^b + 1/2)
            half = add("_plus_scalar", names.fresh("simulate", node.name), scaled(node, inputs[0], 0.5 ** node.int("shift_bit")),
                       scalar="0.5")
            return clip(node, add("floor", names.fresh("simulate", node.name), half))
        if node.kind == "clip":  # MXNet's own holds its bounds in float32
            return between(node, inputs[0], node.float("a_min"), node.float("a_max"))
        if node.kind == "cvm_lut":
            rows = Entry(Node("Reshape", names.fresh("simulate", node.name), [inputs[1]], {"shape": "(-1,)"}), 0)
            return Node("take", node.name, [rows, inputs[0]], {"mode": "clip"})
        if node.kind == "broadcast_div":  # toward zero; float64 cannot round a quotient of 32-bit integers up to the next one
            quotient = Entry(Node("broadcast_div", names.fresh("simulate", node.name), inputs), 0)
            return add("fix", node.name, quotient)
        return node.with_inputs(inputs)

    lowered = graph.rewrite(visit)
    return Graph(lowered.outputs, {name: value.astype("float64") for name, value in graph.params.items()})


class _Elementwise(mx.operator.CustomOpProp):
    """One output, of the shape of the first input."""

    def __init__(self, op_type, **attrs):
        super().__init__(need_top_grad=False)
        self._arguments = ["data", "table"] if op_type == "cvm_lut" else ["data"]
        self._node = Node("Custom", op_type, [Entry(Node("null", name), 0) for name in self._arguments],
                          {"op_type": op_type, **attrs})

    def list_arguments(self):
        return self._arguments

    def infer_shape(self, in_shape):
        return in_shape, [in_shape[0]], []

    def create_operator(self, ctx, in_shapes, in_dtypes):
        return _Lowered(lower(Graph([Entry(self._node, 0)], {})))


class _Lowered(mx.operator.CustomOp):
    """Runs a Custom node through its native form, for whoever executes a saved symbol directly."""

    def __init__(self, graph):
        super().__init__()
        self._block = to_block(graph, "float64")

    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], self._block(*in_data).astype(out_data[0].dtype))


def _register(name):
    @mx.operator.register(name)
    class Prop(_Elementwise):
        def __init__(self, **attrs):
            super().__init__(name, **attrs)


for _name in ("cvm_clip", "cvm_right_shift", "cvm_left_shift", "cvm_lut"):
    _register(_name)
