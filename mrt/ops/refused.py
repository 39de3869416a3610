"""Operators that are known and cannot become integers, with what to do about each."""
from mrt.errors import UnsupportedError
from mrt.ops.base import SPLIT, Operator, register

_COMPARE = "values that differ by less than a step become equal integers; compare with a bound, by > or <="
_MATRICES = f"the runtime multiplies matrices by constant weights only; {SPLIT}, or use a convolution or dense layer"
_ORDER = f"the runtime cannot sort; {SPLIT} and sort its integers there"
_DETECTION = f"it selects among boxes after the network proper; {SPLIT}"
_RANDOM = "its output is random; remove the node"

_REASONS = {
    **dict.fromkeys(("broadcast_equal", "_equal", "_equal_scalar", "broadcast_not_equal", "_not_equal", "_not_equal_scalar"),
                    _COMPARE),
    **dict.fromkeys(("batch_dot", "dot", "_linalg_gemm2"), _MATRICES),
    **dict.fromkeys(("topk", "sort", "argsort"), _ORDER),
    "BilinearSampler": "the runtime gathers by constant places only; use UpSampling, or _contrib_BilinearResize2D",
    **dict.fromkeys(("_contrib_box_nms", "_contrib_box_decode", "_contrib_MultiBoxDetection", "ROIPooling", "_contrib_ROIAlign"),
                    _DETECTION),
    **dict.fromkeys(("gather_nd", "pick", "batch_take"), f"it gathers from a computed tensor, which the runtime cannot; {SPLIT}"),
    **dict.fromkeys(("_random_normal", "_random_uniform"), _RANDOM),
    "RNN": "the runtime has no recurrent layers; unroll it into FullyConnected and Activation nodes",
}


@register(*_REASONS)
class Refused(Operator):
    """Not possible in integers, or not in those of the runtime; the reason and a remedy are reported."""

    instead = "it cannot become integers at all"
    differentiable = False

    def reject(self, node, graph, shapes):
        return _REASONS[node.op]

    def export(self, node, inputs, c):
        raise UnsupportedError(f"node {node.name} ({node.op}) cannot be compiled: {_REASONS[node.op]}")
