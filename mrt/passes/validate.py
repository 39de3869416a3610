"""All reasons why a network cannot be quantized, found before anything is changed."""
from mrt.errors import UnsupportedError
from mrt.graph import Entry, Graph
from mrt.ops import OPERATORS
from mrt.ops.base import SPLIT

__all__ = ["names_above", "unsupported", "validate"]

# operators to which an infinite number is a bound or a filler
BOUNDED = ("Pad", *(f"_{name}_scalar" for name in (
    "plus", "minus", "rminus", "maximum", "minimum", "greater", "greater_equal", "lesser", "lesser_equal")))


def names_above(graph, keys):
    """Names of the operators and inputs that no node named in `keys` depends on. None without keys, nor where a key is a node
    that only preparation makes."""
    nodes = [graph.find(key) for key in keys]
    if not nodes or None in nodes:
        return frozenset()
    below = set(Graph([Entry(node, 0) for node in nodes], {}).topological())
    return frozenset(node.name for node in graph.topological() if node not in below and not graph.is_param(node))


def unsupported(graph, shapes):
    """List of (node, reason) for every node MRT cannot take, among those whose shapes are known."""
    found = []
    for node in graph.topological():
        if node.is_variable or node not in shapes:
            continue
        if node.kind not in OPERATORS:
            found.append((node, f"the operator is not supported; {SPLIT}, or replace it"))
            continue
        reason = _not_finite(node) or OPERATORS[node.kind].reject(node, graph, shapes)
        if reason:
            found.append((node, reason))
    return found


def _not_finite(node):
    """Why an attribute that is not finite has no meaning here, or None."""
    for key in node.attrs:
        number = not key.startswith("__") and node.str(key).lstrip("+-").lower()
        if node.op != "clip" and (number == "nan" or (number in ("inf", "infinity") and node.op not in BOUNDED)):
            return f"{key}={node.str(key)}; write a finite number"
    return None


def validate(graph, shapes, above=frozenset()):
    """UnsupportedError that names every such node at once. Those whose names are in `above` may stay; returns their names, and
    those of the nodes without known shapes."""
    found = unsupported(graph, shapes)
    kept = frozenset(node.name for node, _ in found if node.name in above)
    kept |= {node.name for node in graph.topological() if node not in shapes}
    found = [(node, reason) for node, reason in found if node.name not in above]
    if found:
        lines = "".join(f"\n  {node.name} ({node.kind}): {reason}" for node, reason in found)
        raise UnsupportedError(f"{len(found)} node{'s' if len(found) > 1 else ''} cannot be quantized:{lines}")
    return kept
