"""Operators that exist only in integer graphs: MRT makes them, the runtime runs them, MXNet simulates them (mrt.simulate)."""
from mrt.ops.base import Operator, register


class _Attributed(Operator):
    keys = ()
    differentiable = False

    def export(self, node, inputs, c):
        return c.emit(node, node.kind, inputs, {key: node.int(key) for key in self.keys})


@register("cvm_clip")
class Clip(_Attributed):
    """Clip to the range of a precision."""
    keys = ("precision",)


@register("cvm_right_shift", "cvm_left_shift")
class Shift(_Attributed):
    """x / 2^shift_bit with halves up, or x * 2^shift_bit; then clip to the range of a precision."""
    keys = ("precision", "shift_bit")


@register("cvm_lut")
class Table(_Attributed):
    """table[index], an index outside taking the nearest end."""
    keys = ("in_dim",)
