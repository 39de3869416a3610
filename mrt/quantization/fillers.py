"""Constants meant as infinity: masks of -1e9 added before a softmax, fillers of `where`, borders below every value.

A scale that held them would leave nothing of the numbers beside them. Where all that follows saturates (a softmax, a maximum,
a comparison, a function that is flat), they may come as near as they still cannot be told from infinity.
"""
import numpy as np

from mrt.arithmetic import WIDE_MARGIN
from mrt.ops import operator_of
from mrt.ops.base import FAR, FILLING

__all__ = ["tamed"]

NOWHERE = (None, None)
COMBINING = ("broadcast_add", "broadcast_sub", "where", "Concat", "Pad")


def tamed(q):
    """(thresholds, reach) for a Quantizer: name -> threshold of every node once fillers are near; and node -> largest absolute
    value that a sum, selection or concatenation with a filler need hold of its inputs."""
    thresholds, reach, fillers, lowered = dict(q.thresholds), {}, set(), set()
    room = _room(q)

    def lower(node, threshold):
        if threshold < thresholds[node.name]:
            thresholds[node.name] = threshold
            lowered.add(node)

    for node in q.graph.topological():
        if node.is_variable:
            continue
        if _fills(node, q, thresholds, fillers):
            fillers.add(node)
        if node.op in COMBINING:
            needed = _reach(node, q, thresholds, fillers, room.get(node, NOWHERE))
            if needed is not None:
                reach[node] = needed
                lower(node, 1.5 * needed)  # what is near may add half as much
        if any(entry.node in lowered for entry in node.inputs):
            lower(node, operator_of(node).largest_output(node, [thresholds[entry.node.name] for entry in node.inputs]))
    return thresholds, reach


def _room(q):
    """node -> (below, above) for all consumers together: see Operator.saturation."""
    room = {entry.node: NOWHERE for entry in q.graph.outputs}
    for node in reversed(q.graph.topological()):
        if node.is_variable:
            continue
        own = room.get(node, NOWHERE)
        for entry, sides in zip(node.inputs, operator_of(node).saturation(node, own, q)):
            known = room.get(entry.node, sides)
            room[entry.node] = tuple(None if None in pair else max(pair) for pair in zip(known, sides))
    return room


def _fills(node, q, thresholds, fillers):
    """Does a node compute a constant meant as infinity, or a mask of it?"""
    tensors = [entry.node for entry in node.inputs if not q.graph.is_param(entry.node)]
    largest = max([_largest(q, entry.node) for entry in node.inputs if q.graph.is_param(entry.node)], default=0)
    if node.op == "_mul_scalar":
        return node.float("scalar") >= FILLING or tensors[0] in fillers
    if node.op == "broadcast_mul":
        return largest >= FILLING
    if node.op == "broadcast_add":  # on zeros
        return largest >= FILLING and thresholds[tensors[0].name] == 0
    return (operator_of(node).moves or node.op == "negative") and all(tensor in fillers for tensor in tensors)


def _reach(node, q, thresholds, fillers, room):
    """What a node need hold of its inputs, where one of them is a filler and the others are not; else None."""
    sources = [entry.node for entry in (node.inputs[1:] if node.op == "where" else node.inputs)]
    near = [thresholds[s.name] for s in sources if s not in fillers and not q.graph.is_param(s)]
    if not any(near):  # there is nothing to make room for
        return None
    reach = WIDE_MARGIN * max(near) + max(side or 0 for side in room)
    border = node.float("constant_value", 0.0) if node.op == "Pad" else 0.0
    least, largest = zip((border, border), *(_sides(q, s) for s in sources if s in fillers or q.graph.is_param(s)))
    below, above = min(least) < -FAR * reach, max(largest) > FAR * reach
    if not (below or above) or (below and room[0] is None) or (above and room[1] is None):
        return None
    return reach


def _sides(q, source):
    """(least, largest) value of a parameter, or about that of a mask."""
    if q.graph.is_param(source):
        values = q.graph.params[source.name]
        return float(values.min(initial=0)), float(values.max(initial=0))
    threshold, seen = q.thresholds[source.name], q.channels.get(source.name)
    if seen is not None and (seen.mean <= 0).all():
        return -threshold, 0.0
    return (0.0, threshold) if seen is not None and (seen.mean >= 0).all() else (-threshold, threshold)


def _largest(q, source):
    return float(np.abs(q.graph.params[source.name]).max(initial=0))
