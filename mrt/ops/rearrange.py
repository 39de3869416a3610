"""Operators that rearrange elements and are made of those in `mrt.ops.transform`."""
from mrt.graph import Entry, Node
from mrt.ops.base import Operator, register
from mrt.ops.transform import sliced


@register("stack")
class Stack(Operator):
    """A concatenation along a new axis."""

    def rewrite(self, node, inputs, r):
        axis = node.int("axis", 0) % (len(r.shape(node.inputs[0])) + 1)
        parts = [r.add("expand_dims", [entry], {"axis": axis}, node.name) for entry in inputs]
        return Node("Concat", node.name, parts, {"dim": axis, "num_args": len(parts)})


@register("reverse")
class Reverse(Operator):
    """The elements along axes in opposite order: a slice with steps of -1."""

    def rewrite(self, node, inputs, r):
        rank = len(r.shape(node.inputs[0]))
        axes = {axis % rank for axis in node.tuple("axis")}
        steps = tuple(-1 if axis in axes else 1 for axis in range(rank))
        nothing = str((None,) * rank)
        return Node("slice", node.name, inputs, {"begin": nothing, "end": nothing, "step": str(steps)})


@register("depth_to_space", "space_to_depth")
class Blocks(Operator):
    """Channels become blocks of positions, or the reverse: two reshapes and a transpose."""

    def rewrite(self, node, inputs, r):
        _, channels, height, width = r.shape(node.inputs[0])
        size = node.int("block_size")
        if node.op == "depth_to_space":
            split, axes = (-1, size, size, channels // size ** 2, height, width), (0, 3, 4, 1, 5, 2)
            joined = (-1, channels // size ** 2, height * size, width * size)
        else:
            split, axes = (-1, channels, height // size, size, width // size, size), (0, 3, 5, 1, 2, 4)
            joined = (-1, channels * size ** 2, height // size, width // size)
        entry = r.add("Reshape", inputs, {"shape": str(split)}, node.name)
        entry = r.add("transpose", [entry], {"axes": str(axes)}, node.name)
        return Node("Reshape", node.name, [entry], {"shape": str(joined)})


@register("_split_v2")
class Split(Operator):
    """Parts along an axis, equal or between given places: one slice per output."""

    def rewrite(self, node, inputs, r):
        shape = r.shape(node.inputs[0])
        axis, sections = node.int("axis", 1) % len(shape), node.int("sections", 0)
        places = [shape[axis] // sections * i for i in range(sections)] if sections else list(node.tuple("indices"))
        entries = []
        for begin, end in zip(places, places[1:] + [shape[axis]]):
            part = Entry(sliced(r.name(f"{node.name}_{len(entries)}"), inputs[0], axis, begin, end, len(shape)), 0)
            entries.append(r.add("squeeze", [part], {"axis": axis}, node.name) if node.bool("squeeze_axis") else part)
        return entries
