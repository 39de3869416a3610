"""How far an integer network may be from its float original: a bound for every element, derived from the thresholds and scales.

A bound travels through the prepared float graph beside the values. Every operator turns the bounds of its inputs into that
of its output (a sum adds them, a convolution weighs them with |w|, ...) and adds what it rounds itself:

- A tensor brought to p bits has steps of threshold / (2^(p-1) - 1). Rounding costs half a step, the multiplier, of 12 bits
  at least, 2^-11 of the value, and a shift in front of it half a step of what it shifts to.
- A weight has a step of its own, half of which counts once per product, times the largest input; a bias has half a step of
  the sum.
- A table's index has 12 bits, its values 16: f moves by what it does within the error of the index, and half a step is added.

These are worst cases, all errors in one direction; real ones are several times smaller.
"""
import numpy as np

from mrt.arithmetic import bits, code_range, count_bits
from mrt.execute import invoke
from mrt.graph import Entry, Graph, Node
from mrt.mxnet_bridge import mx

MOVES = {"Flatten", "Reshape", "transpose", "expand_dims", "squeeze", "slice", "tile", "repeat", "UpSampling"}
LAYERS = {"Convolution", "FullyConnected"}
# tables: functions with steps are exact away from them, the others are continuous
STEPS = {"floor": 0.0, "ceil": 0.0, "fix": 0.0, "trunc": 0.0, "round": 0.5, "rint": 0.5}
POSITIVE = {"sqrt", "rsqrt", "log", "log2", "log10", "log1p"}  # their index has 15 bits
FLAT = 2e-5  # tables end where their function is flat; tanh(6) is 1.2e-5 short of 1


def evaluate(graph, x):
    """node -> float64 values of its first output, parameters included."""
    values = {}
    for node in graph.topological():
        if graph.is_param(node):
            values[node] = graph.params[node.name].astype(np.float64)
        else:
            values[node] = x if node.is_variable else _invoke(node, [values[e.node] for e in node.inputs])
    return values


def _invoke(node, arrays):
    return invoke(node, [mx.nd.array(a, dtype="float64") for a in arrays])[0].asnumpy()


class Bounds:
    """`of[node]`: an array of the shape of the node's output. `graph`: prepared; `mrt`: after quantize."""

    def __init__(self, graph, x, mrt):
        self.graph, self.mrt, self.values = graph, mrt, evaluate(graph, x)
        self.consumers = graph.consumers()
        self.of = {}
        for node in graph.topological():
            if not graph.is_param(node):
                error = self._input(node) if node.is_variable else self._bound(node)
                self.of[node] = np.broadcast_to(error, self.values[node].shape)

    def outputs(self):
        return [self.of[e.node] + self._rounding(e.node, 16) for e in self.graph.outputs]

    # --- inputs of an operator

    def _threshold(self, node):
        return self.mrt.th_dict[node.name]

    def _rounding(self, source, precision):
        """What bringing a tensor to `precision` bits costs."""
        step = self._threshold(source) / code_range(precision)
        return step / 2 + self._multiplied(source)

    def _multiplied(self, source):
        """What multiplying costs: a shift to 20 bits before it, and the rounding of the multiplier. Where every channel (axis 1)
        has one of its own, the largest has 12 bits and the others are smaller."""
        scale = np.array(self.mrt.scales[source.name])
        relative = np.minimum(2.0 ** -11 * scale / scale.min(), 1)
        width = bits(min(self._threshold(source) * scale.max(), 2.0 ** 40))
        shifted = 2.0 ** max(width - 20, 0) / 2 / scale if width > 20 else 0 * scale
        if scale.ndim == 1:
            shape = (1, -1) + (1,) * (self.values[source].ndim - 2)
            relative, shifted = relative.reshape(shape), shifted.reshape(shape)
        return shifted + relative * (np.abs(self.values[source]) + self.of[source])

    def _coarse(self, node):
        """Do only layers want this tensor, which is why it may have come down to 8 bits here already?"""
        return any(user is not None and (user.op in LAYERS or (user.op in MOVES | {"relu", "Pooling", "Concat", "clip", "Pad"}
                                                                and self._coarse(user))) for user in self.consumers[node])

    def _any(self, node, i, precision=None):
        """Bound of input i, brought to `precision` bits: 16, or 8 where layers follow."""
        source = node.inputs[i].node
        return self.of[source] + self._rounding(source, precision or (8 if self._coarse(node) else 16))

    def _common(self, node):
        """Bounds of all inputs, brought to one scale of 16 bits, or 8 where layers follow."""
        sources = [e.node for e in node.inputs]
        largest = max(self._threshold(s) for s in sources)
        rounding = largest / code_range(8 if self._coarse(node) and node.op == "Concat" else 16)
        return [self._constant(node, rounding) if self.graph.is_param(s)
                else self.of[s] + rounding + self._multiplied(s) for s in sources]

    def _constant(self, node, rounding):
        """A constant is an integer in the scale of the other operand, where 12 bits or more are used of it, or in 16 bits."""
        other = next(e.node for e in node.inputs if not self.graph.is_param(e.node))
        return max(min(0.5 / np.min(self.mrt.scales[other.name]), self._threshold(other) / code_range(12)), rounding)

    def _full(self, node, bound):
        return np.broadcast_to(bound, self.values[node].shape)

    # --- rules

    def _input(self, node):
        return 0.5 / self.mrt.scales[node.name]

    def _bound(self, node):
        op = node.op
        if op in LAYERS:
            return self._layer(node)
        if op in MOVES:
            return _invoke(node, [self._any(node, 0)])
        if op in ("relu", "negative", "abs"):
            return self.of[node.inputs[0].node]
        if op == "clip":  # its bounds are integers too
            return self._any(node, 0) + self._rounding(node.inputs[0].node, 16)
        if op in ("Pooling", "max"):
            return _invoke(node, [self._any(node, 0)])
        if op == "Pad":
            fill = self._threshold(node.inputs[0].node) / code_range(8)
            return _invoke(Node("Pad", node.name, node.inputs, {**node.attrs, "constant_value": fill}), [self._any(node, 0)])
        if op == "_mul_scalar":
            return self.of[node.inputs[0].node] * abs(node.float("scalar"))
        if op == "sum":
            return self._sum(node)
        if op == "Concat":
            return _invoke(node, [self._full(e.node, b) for b, e in zip(self._common(node), node.inputs)])
        if op in ("broadcast_add", "broadcast_sub"):
            return sum(self._common(node))
        if op == "broadcast_maximum":
            return np.maximum(*self._common(node))
        if op in ("broadcast_greater", "broadcast_lesser_equal"):
            a, b = (self.values[e.node] for e in node.inputs)
            return np.where(np.abs(a - b) > sum(self._common(node)), 0.0, 1.0)
        if op == "where":
            return self._where(node)
        if op == "argmax":
            return self._argmax(node)
        if op == "broadcast_mul":
            return self._product(node)
        if op == "softmax":
            return self._softmax(node)
        if op == "Embedding":
            return np.abs(self.values[node.inputs[1].node]).max() / code_range(16)
        return self._table(node)

    def _layer(self, node):
        source, weight = node.inputs[0].node, np.abs(self.values[node.inputs[1].node])
        threshold = self._threshold(source)
        per_output, products = weight.reshape(len(weight), -1), int(np.prod(weight.shape[1:]))
        rounded = np.count_nonzero(per_output, axis=1)
        bias = np.abs(self.values[node.inputs[2].node]) if len(node.inputs) > 2 else np.zeros(len(weight))
        step = max(threshold / 127, 1 / np.max(self.mrt.scales[source.name]))
        # tiny weights with a large bias get the scale that the bias needs: |bias| below the width of the products; an output
        # without weights gets that of another
        reach = bias / step * 127 / code_range(16 + count_bits(products))
        weight_step = np.maximum(per_output.max(axis=1), reach) / 127
        weight_step = np.where(rounded, weight_step, weight_step.max())
        # a step of the sum is the product of both; bias, its correction and the zero point are rounded there
        largest = threshold + np.abs(self.values[source].mean(axis=0)).max()  # the mean stands for bias correction
        own = rounded * weight_step / 2 * largest + 2 * weight_step * step + bias * 2.0 ** -24
        attrs = {**node.attrs, "no_bias": "True"}
        incoming = self._full(source, self.of[source] + self._rounding(source, 8))
        passed = _invoke(Node(node.op, node.name, node.inputs[:2], attrs), [incoming, weight])
        return passed + own.reshape((1, -1) + (1,) * (passed.ndim - 2))

    def _sum(self, node):
        source = node.inputs[0].node
        count = self.values[source].size // self.values[node].size
        return _invoke(node, [self._full(source, self._any(node, 0, min(16, 31 - count_bits(count))))])

    def _product(self, node):
        sources = [e.node for e in node.inputs]
        sizes = [np.abs(self.values[s]) for s in sources]
        params = [self.graph.is_param(s) for s in sources]
        if any(params):
            constant = sizes[params.index(True)]
            other = sources[params.index(False)]
            channels = self.values[node].shape[1] if self.values[node].ndim > 1 else 0
            exact = constant.size == 1 or constant.size == constant.shape[max(constant.ndim - self.values[node].ndim + 1, 0)] \
                == channels
            if exact and self.values[other].shape == self.values[node].shape:  # only scales change
                return constant * self.of[other]
        errors = [s.max(initial=0) / code_range(15) if p else self.of[n] + self._rounding(n, b)
                  for n, s, p, b in zip(sources, sizes, params, (16, 15))]
        return sizes[0] * errors[1] + sizes[1] * errors[0] + errors[0] * errors[1]

    def _where(self, node):
        """Where the condition may go either way the branches may be confused."""
        condition, a, b = (e.node for e in node.inputs)
        step = 2 * max(self._threshold(a), self._threshold(b)) / code_range(16)
        branches = [step if self.graph.is_param(n) else self.of[n] + step + self._multiplied(n) for n in (a, b)]
        chosen = np.where(self.values[condition] != 0, *branches)
        if self.graph.is_param(condition):
            return chosen
        size = np.abs(self.values[condition])
        unsure = (size <= self.of[condition] + 0.5 / np.min(self.mrt.scales[condition.name])) & (self.of[condition] > 0)
        return np.where(unsure, np.abs(self.values[a] - self.values[b]) + np.maximum(*branches), chosen)

    def _argmax(self, node):
        """Every element that is as large as the largest, but for the bounds, may be taken for it."""
        source, axis = node.inputs[0].node, node.int("axis")
        x, error = self.values[source], self.of[source] + self._rounding(source, 16)
        possible = x + error >= np.max(x - error, axis=axis, keepdims=True)
        place = np.argmax(x, axis=axis)
        places = np.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
        far = np.where(possible, np.abs(places - np.expand_dims(place, axis)), 0).max(axis=axis)
        return far.reshape(self.values[node].shape)

    def _softmax(self, node):
        source, axis = node.inputs[0].node, node.int("axis")
        y, lambd = self.values[node], self.mrt.softmax_lambd
        # x and its maximum are off by the incoming error and half a step each; log(softmax) moves by at most twice that
        shift = np.max(self.of[source]) + lambd / code_range(13) + np.max(self._multiplied(source))
        count = y.shape[axis]
        # each power: half a step of 16 bits, and exp(-lambd) where it is further below; the quotient: a step of 15 bits
        return np.minimum(y * np.expm1(2 * shift), 1) + (count + 1) * (0.5 / code_range(16) + np.exp(-lambd)) + 1 / code_range(15)

    def _table(self, node):
        source = node.inputs[0].node
        x, y = self.values[source], self.values[node]
        positive = node.op in POSITIVE or (node.op == "_power_scalar" and node.float("scalar") % 1 != 0)
        error = self._full(source, self.of[source] + self._rounding(source, 15 if positive else 12))
        value_step = np.abs(y).max() / code_range(16) + FLAT * np.abs(y).max()
        if node.op in STEPS:
            near = np.abs(x - STEPS[node.op] - np.rint(x - STEPS[node.op])) <= error
            return np.where(near, np.ceil(error) + 1, 0) + value_step
        near = [x + sign * error * part for sign in (-1, 1) for part in (0.25, 0.5, 0.75, 1)]
        if not positive:
            return np.max([np.abs(_invoke(node, [v]) - y) for v in near], axis=0) + value_step
        # the table's first entry stands for a quarter of a step where there is a pole, and no entry for more than twice the
        # largest value seen
        least, most = self._threshold(source) / code_range(15) / 4, 2 * self._threshold(node)
        moved = [np.abs(np.clip(_invoke(node, [np.maximum(v, least)]), -most, most) - y) for v in near]
        return np.max(moved, axis=0) + 2 * value_step


def with_all_outputs(graph):
    """(graph, nodes): the same graph with every operator as an output, in order."""
    nodes = [node for node in graph.topological() if not node.is_variable]
    return Graph([Entry(node, 0) for node in nodes], graph.params), nodes
