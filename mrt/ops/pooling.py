"""Maxima, averages and sums over windows."""
import numpy as np

from mrt.graph import Entry, Node
from mrt.ops.base import ENORMOUS, Operator, of_channels, register
from mrt.ops.reduce import below_maximum


@register("Pooling")
class Pooling(Operator):
    """Maximum, average and sum over windows or all positions of one or two dimensions; averages are sums or convolutions with
    constant weights."""

    def saturation(self, node, room, q):
        return [below_maximum(node, room, q)]

    differentiable = True

    def reject(self, node, graph, shapes):
        layout = {3: "NCW", 4: "NCHW"}.get(len(shapes[node.inputs[0].node][node.inputs[0].index]))
        if layout is None or node.str("layout", layout) not in (layout, "None"):
            return "it is not one- or two-dimensional in layout NCW or NCHW; reshape or transpose before it"
        kind = node.str("pool_type", "max")
        return None if kind in ("max", "avg", "sum") else f"pool_type={kind}; use max, avg or sum"

    def rewrite(self, node, inputs, r):
        shape, out = r.shape(node.inputs[0]), r.shape(Entry(node, 0))
        if len(shape) == 4:
            return self._pooled(node, inputs, shape, out[2:], r)
        # one-dimensional: an image of one column
        attrs = {key: str(node.tuple(key) + (rest,)) for key, rest in (("kernel", 1), ("stride", 1), ("pad", 0))
                 if node.tuple(key)}
        column = r.add("expand_dims", [inputs[0]], {"axis": 3}, node.name)
        pooling = Node("Pooling", r.name(node.name), (), {**node.attrs, **attrs, "layout": "NCHW"})
        pooled = Entry(self._pooled(pooling, (column,), (*shape, 1), (*out[2:], 1), r), 0)
        return Node("squeeze", node.name, [pooled], {"axis": 3})

    def _pooled(self, node, inputs, shape, out, r):
        """The core node(s) of a two-dimensional pooling from `shape` to height and width `out`."""
        kind = node.str("pool_type", "max")
        if node.bool("global_pool"):
            if kind == "max":
                return Node("Pooling", node.name, inputs, {"kernel": str(shape[2:]), "pool_type": "max"})
            over = {"axis": "(2, 3)", "keepdims": "True"}
            if kind == "sum":
                return Node("sum", node.name, inputs, over)
            total = r.add("sum", inputs, over, node.name)
            return r.again(Node("_mul_scalar", node.name, [total], {"scalar": repr(1.0 / (shape[2] * shape[3]))}))
        if kind == "max":
            return self._largest(node, inputs, shape, out, r)
        return self._windows(node, inputs[0], shape, out, r)

    @staticmethod
    def _largest(node, inputs, shape, out, r):
        """Windows that lie wholly outside the input, as the last may with pooling_convention=full, hold MXNet's least number."""
        stride, pad = node.tuple("stride") or (1, 1), node.tuple("pad") or (0, 0)
        if all((count - 1) * s - p < size for size, count, s, p in zip(shape[2:], out, stride, pad)):
            return Node(node.op, node.name, inputs, node.attrs)
        widths = [0] * 4
        for size, count, k, s, p in zip(shape[2:], out, node.tuple("kernel"), stride, pad):
            widths += [p, max((count - 1) * s + k - size - p, 0)]
        border = {"mode": "constant", "pad_width": str(tuple(widths)), "constant_value": repr(-ENORMOUS)}
        entry = r.add("Pad", [inputs[0]], border, node.name)
        return Node(node.op, node.name, [entry], {"kernel": node.str("kernel"), "stride": str(stride), "pool_type": "max"})

    @staticmethod
    def _windows(node, entry, shape, out, r):
        """Sums over windows as a convolution with ones; averages divide by the number of elements, which is another one at the
        borders where windows are cut or padding does not count."""
        kernel, channels, kind = node.tuple("kernel"), shape[1], node.str("pool_type")
        stride, pad = node.tuple("stride") or (1, 1), node.tuple("pad") or (0, 0)
        counts, beyond = [], []
        for size, count, k, s, p in zip(shape[2:], out, kernel, stride, pad):
            begin = np.arange(count) * s - p
            end = np.minimum(begin + k, size + p)
            beyond.append(max(int(begin[-1]) + k - size - p, 0))
            inside = np.minimum(end, size) - np.maximum(begin, 0)
            elements = end - begin if node.bool("count_include_pad", True) else inside
            counts.append(np.maximum(elements, 1))  # a window that lies outside sums zeros
        if any(beyond):
            widths = (0, 0, 0, 0, pad[0], pad[0] + beyond[0], pad[1], pad[1] + beyond[1])
            entry, pad = r.add("Pad", [entry], {"mode": "constant", "pad_width": str(widths)}, node.name), (0, 0)
        counts = np.outer(*counts)
        same = counts.min() == counts.max()
        weight = np.full((channels, 1) + kernel, 1.0 / counts[0, 0] if kind == "avg" and same else 1.0)
        attrs = {"kernel": node.str("kernel"), "num_filter": channels, "num_group": channels, "no_bias": "True",
                 "stride": str(stride), "pad": str(pad)}
        inputs = (entry, r.param(weight, f"{node.name}_weight"))
        if kind == "sum" or same:
            return Node("Convolution", node.name, inputs, attrs)
        shares = r.param((1.0 / counts)[None, None], f"{node.name}_shares")
        return Node("broadcast_mul", node.name, [r.add("Convolution", inputs, attrs, node.name), shares])

    def carried(self, node, i, numbers, q):
        return of_channels(numbers, q.shapes[node][0])

    def export(self, node, inputs, c):
        return c.emit(node, "max_pool2d", inputs, {
            "pool_size": node.tuple("kernel"), "strides": node.tuple("stride") or (1, 1), "padding": node.tuple("pad") or (0, 0),
            "ceil_mode": node.str("pooling_convention", "valid") == "full"})
