"""Operators that move elements and compute nothing."""
import numpy as np

from mrt import arithmetic
from mrt.arithmetic import code_range
from mrt.execute import invoke
from mrt.graph import Entry, Node
from mrt.mxnet_bridge import mx
from mrt.ops.base import ENORMOUS, Operator, of_channels, register


class _Move(Operator):
    """Elements go to other places, and take the scales of their channels with them."""

    instead = "it moves elements and takes them as they come; the operators that compute with them can have a precision"
    differentiable = True
    moves = True

    def quantize(self, node, q):
        return q.moved(node)

    def carried(self, node, i, numbers, q):
        return invoke(node, [mx.nd.array(numbers, dtype="float32")])[0].asnumpy().astype(np.int64)


class _Reshaped(_Move):
    """The same elements in the same order: where axes 0 and 1 stay, channels keep scales of their own."""

    def quantize(self, node, q):
        same, tensor = q.shapes[q.source(node, 0)][0][:2] == q.shapes[node][0][:2], q.tensor(node, 0, moved=True)
        return q.follow(node, tensor) if same and not tensor.is_moved else super().quantize(node, q)


@register("Flatten")
class Flatten(_Reshaped):
    """(N, d1, .., dk) -> (N, d1 * .. * dk)."""

    def rewrite(self, node, inputs, r):
        return inputs[0] if len(r.shape(node.inputs[0])) == 2 else node.with_inputs(inputs)

    def export(self, node, inputs, c):
        return c.emit(node, "flatten", inputs, {})


@register("Reshape")
class Reshape(_Reshaped):
    """Another shape, with all codes 0, -1, .. -4; exported with the shape it has after inference."""

    def reject(self, node, graph, shapes):
        return "reverse=True; write the shape out" if node.bool("reverse") else None

    def rewrite(self, node, inputs, r):
        shape = node.tuple("shape")
        if any(extent < -1 for extent in shape):  # MXNet's inference crashes on these codes where a rank is not known
            shape = (-1,) + r.shape(Entry(node, 0))[1:]
        return Node("Reshape", node.name, inputs, {"shape": str(shape)})

    def export(self, node, inputs, c):
        return c.emit(node, "reshape", inputs, {"shape": c.shape(node)})


@register("reshape_like")
class ReshapeLike(Operator):
    """To the shape the second input has, with the batch left open."""

    def reject(self, node, graph, shapes):
        plain = all(node.str(key, "None") in ("None", "0") for key in ("lhs_begin", "lhs_end", "rhs_begin", "rhs_end"))
        return None if plain else "it copies a part of the shape (begin, end); copy the whole, or use Reshape"

    def rewrite(self, node, inputs, r):
        shape = r.shape(node.inputs[1])
        if r.shape(node.inputs[0]) == shape:
            return inputs[0]
        return Node("Reshape", node.name, [inputs[0]], {"shape": str((-1,) + tuple(shape[1:]))})


@register("transpose")
class Transpose(_Move):
    """Permutes axes."""

    def rewrite(self, node, inputs, r):
        rank = len(r.shape(node.inputs[0]))
        axes = node.tuple("axes") or tuple(reversed(range(rank)))
        axes = tuple(axis % rank for axis in axes)
        return inputs[0] if axes == tuple(range(rank)) else Node("transpose", node.name, inputs, {"axes": str(axes)})

    def export(self, node, inputs, c):
        return c.emit(node, "transpose", inputs, {"axes": node.tuple("axes")})


@register("SwapAxis")
class SwapAxis(Operator):
    """A transpose."""

    def rewrite(self, node, inputs, r):
        axes = list(range(len(r.shape(node.inputs[0]))))
        a, b = node.int("dim1", 0), node.int("dim2", 0)
        axes[a], axes[b] = axes[b], axes[a]
        return Node("transpose", node.name, inputs, {"axes": str(tuple(axes))})


@register("expand_dims")
class ExpandDims(_Reshaped):
    """Inserts an axis of extent 1."""

    def export(self, node, inputs, c):
        return c.emit(node, "reshape", inputs, {"shape": c.shape(node)})


@register("squeeze")
class Squeeze(ExpandDims):
    """Drops axes of extent 1."""


@register("slice")
class Slice(_Move):
    """Ranges with steps, negative ones too."""

    def export(self, node, inputs, c):
        shape = c.shape(node.inputs[0].node)
        begin, end, step = (_items(node, key, len(shape)) for key in ("begin", "end", "step"))
        step = [s or 1 for s in step]
        begin = [(0 if s > 0 else d - 1) if b is None else b for b, s, d in zip(begin, step, shape)]
        end = [(d if s > 0 else -d - 1) if e is None else e for e, s, d in zip(end, step, shape)]
        return c.emit(node, "strided_slice", inputs, {"begin": begin, "end": end, "stride": step})


def _items(node, key, rank):
    values = list(node.tuple(key))
    return values + [None] * (rank - len(values))


def sliced(name, entry, axis, begin, end, rank, step=1):
    ranges = {"begin": [None] * rank, "end": [None] * rank, "step": [1] * rank}
    ranges["begin"][axis], ranges["end"][axis], ranges["step"][axis] = begin, end, step
    return Node("slice", name, [entry], {key: str(tuple(values)) for key, values in ranges.items() if key != "step" or step != 1})


@register("slice_axis")
class SliceAxis(Operator):
    """A range of one axis."""

    def rewrite(self, node, inputs, r):
        shape = r.shape(node.inputs[0])
        axis = node.int("axis") % len(shape)
        begin, end = node.int("begin", 0), None if node.str("end") == "None" else node.int("end")
        end = shape[axis] if end in (None, 0) else end
        return sliced(node.name, inputs[0], axis, begin, end, len(shape))


@register("SliceChannel")
class SliceChannel(Operator):
    """Equal parts along an axis: one slice per output."""

    def rewrite(self, node, inputs, r):
        shape, count = r.shape(node.inputs[0]), node.int("num_outputs")
        axis = node.int("axis", 1) % len(shape)
        size, entries = shape[axis] // count, []
        for i in range(count):
            name = node.name if count == 1 else r.name(f"{node.name}_{i}")
            part = Entry(sliced(name, inputs[0], axis, i * size, (i + 1) * size, len(shape)), 0)
            if node.bool("squeeze_axis"):
                part = r.add("squeeze", [part], {"axis": axis}, node.name)
            entries.append(part)
        return entries


@register("slice_like")
class SliceLike(Operator):
    """The leading part with the extents of the second input, which is needed for its shape alone."""

    instead = "it becomes slice, which takes its input as it comes; the operators that compute with it can have a precision"

    def rewrite(self, node, inputs, r):
        shape, like = r.shape(node.inputs[0]), r.shape(node.inputs[1])
        axes = node.tuple("axes") or tuple(range(len(shape)))
        end = [None] * len(shape)
        for axis in axes:
            if axis % len(shape) != 0 or len(axes) == 1:  # the batch is the same by itself
                end[axis % len(shape)] = like[axis % len(shape)]
        return Node("slice", node.name, [inputs[0]], {"begin": str((None,) * len(shape)), "end": str(tuple(end))})


@register("Crop")
class Crop(Operator):
    """A part of height and width, given by size or by a second input."""

    def rewrite(self, node, inputs, r):
        shape, out = r.shape(node.inputs[0]), r.shape(Entry(node, 0))
        y, x = (node.tuple("offset") or (0, 0))
        if node.bool("center_crop"):
            y, x = (shape[2] - out[2]) // 2, (shape[3] - out[3]) // 2
        begin, end = (None, None, y, x), (None, None, y + out[2], x + out[3])
        return Node("slice", node.name, [inputs[0]], {"begin": str(begin), "end": str(end)})


@register("tile")
class Tile(_Move):
    """Repeats the whole tensor along axes."""

    def export(self, node, inputs, c):
        return c.emit(node, "tile", inputs, {"reps": node.tuple("reps")})


@register("broadcast_to", "broadcast_like", "broadcast_axis")
class BroadcastTo(Operator):
    """A tile; the batch stays open."""

    def rewrite(self, node, inputs, r):
        shape, out = r.shape(node.inputs[0]), r.shape(Entry(node, 0))
        return Node("tile", node.name, [inputs[0]], {"reps": str(tuple(o // s for s, o in zip(shape, out)))})


@register("repeat")
class Repeat(_Move):
    """Repeats every element along an axis; without axis the input is flattened first."""

    def rewrite(self, node, inputs, r):
        if node.str("axis", "None") != "None":
            return node.with_inputs(inputs)
        flat = r.add("Reshape", inputs, {"shape": "(-1,)"}, node.name)
        return Node("repeat", node.name, [flat], {**node.attrs, "axis": "0"})

    def export(self, node, inputs, c):
        return c.emit(node, "repeat", inputs, {"repeats": node.int("repeats"), "axis": node.int("axis")})


@register("UpSampling")
class UpSampling(Operator):
    """By a whole factor: nearest neighbour, of several inputs to the size of the first one's result, which are concatenated or
    summed; or with weights, a transposed convolution."""

    differentiable = True
    moves = True

    def reject(self, node, graph, shapes):
        if node.str("sample_type") == "bilinear" and not graph.is_param(node.inputs[1].node):
            return "its weight is a computed tensor; make it a parameter"
        return None

    def rewrite(self, node, inputs, r):
        scale = node.int("scale")
        if node.str("sample_type") == "bilinear":
            channels = r.shape(node.inputs[0])[1]
            attrs = {"kernel": (2 * scale - scale % 2,) * 2, "stride": (scale,) * 2, "pad": (scale // 2,) * 2,
                     "num_filter": channels, "num_group": channels, "no_bias": True}
            return r.again(Node("Deconvolution", node.name, inputs, attrs), node.inputs)
        sizes = [r.shape(entry)[2] for entry in node.inputs]
        scales = [sizes[0] * scale // size for size in sizes]
        if len(inputs) == 1:
            return Node(node.op, node.name, inputs, {"scale": scale, "sample_type": "nearest", "num_args": 1})
        parts = [r.add(node.op, [entry], {"scale": times, "sample_type": "nearest", "num_args": 1}, node.name)
                 for entry, times in zip(inputs, scales)]
        if node.str("multi_input_mode", "concat") == "concat":
            return Node("Concat", node.name, parts, {"dim": 1, "num_args": len(parts)})
        total = parts[0]
        for part in parts[1:-1]:
            total = r.add("broadcast_add", [total, part], {}, node.name)
        return Node("broadcast_add", node.name, [total, parts[-1]])

    def carried(self, node, i, numbers, q):
        return of_channels(numbers, q.shapes[node][0])

    def export(self, node, inputs, c):
        return c.emit(node, "upsampling", inputs, {"scale": node.int("scale")})


@register("Pad")
class Pad(Operator):
    """A border around height and width: of one value, exported as concatenation with constants; of copies of the edge; or of what
    a mirror there would show."""

    differentiable = True

    def reject(self, node, graph, shapes):
        return None if len(shapes[node][0]) == 4 else "its input does not have rank 4 (NCHW); reshape before it"

    def rewrite(self, node, inputs, r):
        if node.str("mode") != "constant":
            return self._copied(node, inputs[0], r.shape(node.inputs[0]), r)
        value = float(np.clip(node.float("constant_value", 0.0), -ENORMOUS, ENORMOUS))
        return Node("Pad", node.name, inputs, {**node.attrs, "constant_value": repr(value)})

    @staticmethod
    def _copied(node, entry, shape, r):
        """Along each axis the rows of the border, and what lies between them, one after the other."""
        widths, reflect = node.tuple("pad_width"), node.str("mode") == "reflect"
        for axis in (2, 3):
            before, after, last = widths[2 * axis], widths[2 * axis + 1], shape[axis] - 1
            if reflect:
                stop = last - 1 - after
                ranges = [(before, 0, -1), (last - 1, stop if stop >= 0 else None, -1)]
            else:
                ranges = [(0, 1, 1), (last, None, 1)]
            parts = [entry]
            for place, count, (begin, end, step) in zip((0, 2), (before, after), ranges):
                if count:
                    part = Entry(sliced(r.name(node.name), entry, axis, begin, end, 4, step), 0)
                    part = part if reflect else r.add("repeat", [part], {"repeats": count, "axis": axis}, node.name)
                    parts.insert(place, part)
            if len(parts) > 1:
                entry = r.add("Concat", parts, {"dim": axis, "num_args": len(parts)}, node.name)
        return entry

    def carried(self, node, i, numbers, q):
        return of_channels(numbers, q.shapes[node][0]) if node.float("constant_value", 0.0) == 0 else None

    def nonnegative(self, node, inputs):
        return inputs[0] and node.float("constant_value", 0.0) >= 0

    def integral(self, node, inputs, q):
        return inputs[0] and node.float("constant_value", 0.0) % 1 == 0

    def quantize(self, node, q):
        value = float(np.clip(node.float("constant_value", 0.0), -q.reach.get(node, np.inf), q.reach.get(node, np.inf)))
        if value == 0:
            return q.follow(node, q.tensor(node, 0))
        entry, scale, precision = q.uniform(node, 0)
        if q.integral[node]:
            precision = max(precision, arithmetic.bits(value * scale))
        elif abs(value) * scale > code_range(precision):  # beyond the input's range: 16 bits that hold both
            precision, scale = 16, arithmetic.scale_for(max(q.thresholds[q.source(node, 0).name], abs(value)), 16)
            entry = q.at_scale(node, 0, precision, scale)
        return q.result(node, [entry], scale, precision, attrs={**node.attrs, "constant_value": round(value * scale)})

    def export(self, node, inputs, c):
        value, widths = int(node.float("constant_value", 0.0)), node.tuple("pad_width")
        entry, shape = inputs[0], list(c.shape(node.inputs[0].node))
        for axis in (2, 3):
            before, after = widths[2 * axis], widths[2 * axis + 1]
            parts = [c.filled(value, shape[:axis] + [n] + shape[axis + 1:]) if n else None for n in (before, after)]
            shape[axis] += before + after
            if before or after:
                entry = c.emit(node, "concatenate", [e for e in (parts[0], entry, parts[1]) if e is not None], {"axis": axis},
                               tuple(shape))
        return entry


@register("Concat")
class Concat(Operator):
    """Along the channels every input may keep its own scales; along other axes they share one."""

    instead = "its inputs are as fine as its consumers want them; set the precision of those, or that of the outputs"
    differentiable = True
    moves = True

    def carried(self, node, i, numbers, q):
        first = numbers.take([0], node.int("dim", 1))
        if node.int("dim", 1) % numbers.ndim != 1 and (numbers == first).all():  # the others have the same, element by element
            return np.broadcast_to(first, q.shapes[node][0])
        parts = [numbers if k == i else np.full(q.shapes[q.source(node, k)][0], -1) for k in range(len(node.inputs))]
        return np.concatenate(parts, node.int("dim", 1))

    def nonnegative(self, node, inputs):
        return all(inputs)

    def integral(self, node, inputs, q):
        return all((q.param(node, i) % 1 == 0).all() if q.is_param(node, i) else known for i, known in enumerate(inputs))

    def wanted(self, node, limit, q):
        return [limit if limit <= 2 * code_range(8) else code_range(16)] * len(node.inputs)

    def quantize(self, node, q):
        limit = self.wanted(node, q.wanted[node], q)[0]
        count, axis = len(node.inputs), node.int("dim", 1) % len(q.shapes[node][0])
        if q.integral[node]:
            return self._at(node, q, 1.0, max(q.integer_bits(node, i) for i in range(count)))
        if node in q.reach:
            return self._at(node, q, limit / q.reach[node], arithmetic.bits(limit))
        if axis == 1 and limit > 2 * code_range(8):
            return q.joined(node, axis, [self._constant(node, q, i, 16) if q.is_param(node, i) else q.as_wide(node, i)
                                         for i in range(count)])
        tensors = [None if q.is_param(node, i) else q.narrow(node, i, limit) for i in range(count)]
        if axis != 1 and (None in tensors or np.ndim(q.joined(node, axis, tensors).scale) > 1):
            tensors = [None] * count  # the same channel of every input needs the same scale
        thresholds = [q.thresholds[q.source(node, i).name] for i in range(count)]
        ends = np.cumsum([q.shapes[q.source(node, i)][0][1] for i in range(count)]) if axis == 1 else None
        bounds = q.channel_bounds(node, limit, None if ends is None else np.repeat(thresholds, np.diff(ends, prepend=0)))
        bounds = max(thresholds) if bounds is None else bounds
        scale = limit / bounds if np.min(bounds) > 0 else 1.0
        for i in range(count):
            if tensors[i] is None:
                part = scale if ends is None or np.ndim(scale) == 0 else np.split(scale, ends[:-1])[i]
                tensors[i] = self._at_scale(node, q, i, arithmetic.bits(limit), part)
        return q.joined(node, axis, tensors)

    def _at(self, node, q, scale, precision):
        """All inputs at one scale."""
        entries = [self._at_scale(node, q, i, precision, scale)[0] for i in range(len(node.inputs))]
        return q.result(node, entries, scale, precision)

    def _at_scale(self, node, q, i, precision, scale):
        """(entry, scale, precision) of an input or parameter."""
        if q.is_param(node, i):
            return self._constant(node, q, i, precision, scale)
        return q.at_scale(node, i, precision, scale), scale, precision

    @staticmethod
    def _constant(node, q, i, precision, scale=None):
        """(entry, scale, precision) of a parameter."""
        values = q.param(node, i)
        scale = arithmetic.scale_for(np.abs(values).max(), precision) if scale is None else scale
        column = np.reshape(scale, (1, -1) + (1,) * (values.ndim - 2))
        entry = q.constant(arithmetic.quantize(values, column, precision), precision, node.inputs[i].node.name)
        return entry, scale, precision

    def export(self, node, inputs, c):
        return c.emit(node, "concatenate", inputs, {"axis": node.int("dim", 1)})


@register("Embedding")
class Embedding(Operator):
    """Rows of a table by number."""

    input_bits = 16  # of the table
    differentiable = False  # row numbers have no gradient

    def reject(self, node, graph, shapes):
        return None if graph.is_param(node.inputs[1].node) else "its table is a computed tensor; make it a parameter"

    def nonnegative(self, node, inputs):
        return False

    def exact(self, node, largest, q):
        return [len(q.param(node, 1)), None]

    def integral(self, node, inputs, q):
        return node in q.exact and (q.param(node, 1) % 1 == 0).all()

    def quantize(self, node, q):
        table = q.param(node, 1)
        precision = q.input_precision(node)
        scale = arithmetic.scale_for(np.abs(table).max(), precision)
        if q.integral[node]:
            precision, scale = arithmetic.bits(table), 1.0
        codes = q.constant(arithmetic.quantize(table, scale, precision), precision, node.inputs[1].node.name)
        index = q.at_scale(node, 0, arithmetic.bits(len(table)), 1.0)
        return q.result(node, [index, codes], scale, precision)

    def export(self, node, inputs, c):
        return c.emit(node, "take", inputs[::-1], {"axis": 0})
