"""Transposed convolution as a convolution."""
import numpy as np

from mrt.graph import Node
from mrt.ops.base import Operator, register


@register("Deconvolution")
class Deconvolution(Operator):
    """Two-dimensional: a convolution with the turned kernel, on the input with zeros between its elements."""

    def reject(self, node, graph, shapes):
        if len(node.tuple("kernel")) != 2 or node.str("layout", "NCHW") not in ("NCHW", "None"):
            return f"kernel={node.str('kernel')} layout={node.str('layout', 'NCHW')}; use two dimensions in layout NCHW"
        if not all(graph.is_param(e.node) for e in node.inputs[1:]):
            return "its weight or bias is a computed tensor; make both parameters"
        if max(node.tuple("stride") or (1,)) > 1 < max(node.tuple("dilate") or (1,)):
            return "stride and dilate are both above 1, for which MXNet computes wrong results on the CPU; set one of them to 1"
        if any(before < 0 for before in _borders(node, _padding(node, shapes[node.inputs[0].node][node.inputs[0].index])[0])):
            return "its padding is larger than its kernel; crop the output in its place"
        return None

    def rewrite(self, node, inputs, r):
        height, width = r.shape(node.inputs[0])[2:]
        stride, groups = node.tuple("stride") or (1, 1), node.int("num_group", 1)
        pad, adjust = _padding(node, r.shape(node.inputs[0]))
        entry = inputs[0]
        if stride != (1, 1):
            for axis, times in ((2, stride[0]), (3, stride[1])):
                entry = r.add("repeat", [entry], {"repeats": times, "axis": axis}, node.name)
            mask = np.zeros((1, 1, height * stride[0], width * stride[1]))
            mask[:, :, ::stride[0], ::stride[1]] = 1
            entry = r.add("broadcast_mul", [entry, r.param(mask, f"{node.name}_mask")], {}, node.name)
            end = (None, None, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1)
            entry = r.add("slice", [entry], {"begin": str((None,) * 4), "end": str(end)}, node.name)
        before = _borders(node, pad)
        if any(adjust):
            widths = (0, 0, 0, 0, before[0], before[0] + adjust[0], before[1], before[1] + adjust[1])
            entry, before = r.add("Pad", [entry], {"mode": "constant", "pad_width": str(widths)}, node.name), (0, 0)
        weight = r.params[node.inputs[1].node.name]
        weight = weight.reshape((groups, -1) + weight.shape[1:]).swapaxes(1, 2)[..., ::-1, ::-1]
        weight = r.param(weight.reshape((-1,) + weight.shape[2:]), node.inputs[1].node.name)
        return r.again(Node("Convolution", node.name, (entry, weight, *inputs[2:]), {
            "kernel": node.str("kernel"), "num_filter": node.int("num_filter"), "num_group": groups, "pad": str(before),
            "stride": "(1, 1)", "dilate": str(node.tuple("dilate") or (1, 1)), "no_bias": len(inputs) < 3}))


def _padding(node, shape):
    """(pad, adj) of the output; a target_shape implies both."""
    target = node.tuple("target_shape")
    if not any(target):
        return node.tuple("pad") or (0, 0), node.tuple("adj") or (0, 0)
    sizes = zip(shape[2:], target, node.tuple("kernel"), node.tuple("stride") or (1, 1), node.tuple("dilate") or (1, 1))
    excess = [s * (size - 1) + d * (k - 1) + 1 - wanted for size, wanted, k, s, d in sizes]
    return tuple((n + 1) // 2 for n in excess), tuple(n % 2 for n in excess)


def _borders(node, pad):
    """Rows and columns of zeros before the input."""
    sizes = zip(node.tuple("kernel"), node.tuple("dilate") or (1, 1), pad)
    return tuple(dilate * (kernel - 1) - pad for kernel, dilate, pad in sizes)
