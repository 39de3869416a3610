"""Interpolation and averages to a fixed size: linear maps of rows and of columns, as dense layers with constant weights."""
import numpy as np

from mrt.graph import Entry, Node
from mrt.ops.base import Operator, register


def _interpolation(before, after, align_corners):
    """(after, before): how much of each old position each new one takes."""
    if align_corners:
        places = np.arange(after) * ((before - 1) / max(after - 1, 1))
    else:
        places = np.maximum((np.arange(after) + 0.5) * (before / after) - 0.5, 0)
    low = np.minimum(np.floor(places).astype(int), before - 1)
    high = np.minimum(low + 1, before - 1)
    weights, share = np.zeros((after, before)), places - low
    np.add.at(weights, (np.arange(after), low), 1 - share)
    np.add.at(weights, (np.arange(after), high), share)
    return weights


def _averages(before, after):
    """(after, before): windows of nearly equal size that cover all positions."""
    weights = np.zeros((after, before))
    for i in range(after):
        begin, end = i * before // after, -(-(i + 1) * before // after)
        weights[i, begin:end] = 1 / (end - begin)
    return weights


@register("_contrib_BilinearResize2D", "_contrib_AdaptiveAvgPooling2D")
class Resize(Operator):
    """Bilinear interpolation, or averages, to a fixed size: dense layers along the width and along the height."""

    def rewrite(self, node, inputs, r):
        _, channels, height, width = r.shape(node.inputs[0])
        _, _, rows, columns = r.shape(Entry(node, 0))
        if node.op == "_contrib_AdaptiveAvgPooling2D" and rows == columns == 1:
            total = r.add("sum", inputs, {"axis": "(2, 3)", "keepdims": "True"}, node.name)
            return r.again(Node("_mul_scalar", node.name, [total], {"scalar": repr(1.0 / (height * width))}))
        entry = self._along_last(node, inputs[0], (channels, height, width), columns, r, r.name(node.name))
        return self._along_last(node, entry, (channels, columns, height), rows, r, node.name)

    @staticmethod
    def _along_last(node, entry, shape, size, r, name):
        """The last axis interpolated to `size`, and exchanged with the one before."""
        pooling = node.op == "_contrib_AdaptiveAvgPooling2D"
        values = _averages(shape[2], size) if pooling else _interpolation(shape[2], size, node.bool("align_corners", True))
        weights = r.param(values, f"{node.name}_weight")
        flat = r.add("Reshape", [entry], {"shape": str((-1, shape[2]))}, node.name)
        dense = r.add("FullyConnected", [flat, weights], {"num_hidden": size, "no_bias": "True", "flatten": "False"}, node.name)
        unfolded = r.add("Reshape", [dense], {"shape": str((-1, *shape[:2], size))}, node.name)
        return Entry(Node("transpose", name, [unfolded], {"axes": "(0, 1, 3, 2)"}), 0)
