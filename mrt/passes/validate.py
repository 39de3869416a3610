"""All reasons why a network cannot be quantized, found before anything is changed."""
from mrt.errors import UnsupportedError
from mrt.ops import OPERATORS

__all__ = ["unsupported", "validate"]


def unsupported(graph, shapes):
    """List of (node, reason) for every node MRT cannot take."""
    found = []
    for node in graph.topological():
        if node.is_variable:
            continue
        if node.kind not in OPERATORS:
            found.append((node, "the operator is not supported; split the network before it (Model.split), or replace it"))
            continue
        reason = OPERATORS[node.kind].reject(node, graph, shapes)
        if reason:
            found.append((node, reason))
    return found


def validate(graph, shapes):
    """UnsupportedError that names every such node at once."""
    found = unsupported(graph, shapes)
    if found:
        lines = "".join(f"\n  {node.name} ({node.kind}): {reason}" for node, reason in found)
        raise UnsupportedError(f"{len(found)} node{'s' if len(found) > 1 else ''} cannot be quantized:{lines}")
    return graph
