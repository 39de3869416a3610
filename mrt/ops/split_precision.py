"""Split precision: an operand of a layer of more than 8 bits as high * 2^bits + low, each of 8."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mrt import arithmetic
from mrt.errors import MRTError
from mrt.graph import Entry, Node

LOW_BITS = 7  # at most, of the low part of an operand


class Sums(NamedTuple):
    """What a layer of integers computes."""
    node: Node
    entry: Entry  # its input
    constants: list  # entries of the weights and, unless it has none, of the bias
    attrs: dict
    scale: np.ndarray
    width: int  # bits of the sums of products
    total: int  # with the bias


def room(node, q):
    """The most bits a low part can have, so that no sum has to be clipped."""
    count = int(np.prod(q.param(node, 1).shape[1:]))
    width = arithmetic.sum_bits(2 * q.weight_precision, count)
    return min(arithmetic.MAX_BITS - 3 - width, LOW_BITS)


def low_bits_of_weights(node, q):
    """Bits of the low part where weights are split, as many as the sum of both has room for; 0
    where they are not."""
    return room(node, q) if q.parts.get(node) == "weight" else 0


def constants(node, q, codes, low_bits):
    """[entry] of the weights `codes`, or [high, low] where they are split."""
    high = codes if not low_bits else (codes + 2 ** (low_bits - 1)) >> low_bits
    name = node.inputs[1].node.name
    entries = [q.constant(high, q.weight_precision, name)]
    if low_bits:
        entries.append(q.constant(codes - (high << low_bits), q.weight_precision, name))
    return entries


def of_weights(fine, q, high, low_bits):
    """The Tensor of a layer whose weights are split: two layers on one input, and their sum.
    `fine`: with the low weights, and the bias; `high`: entry of the others."""
    node = fine.node
    coarse = q.add(node.op, [fine.entry, high], {**fine.attrs, "no_bias": True}, node.name)
    coarse = q.add("broadcast_mul", [coarse, q.scalar(2 ** low_bits)], {}, node.name)
    low = q.add(node.op, [fine.entry, *fine.constants], fine.attrs, node.name)
    total = max(fine.width + arithmetic.bits(2 ** low_bits), fine.total) + 1
    return q.result(node, [coarse, low], fine.scale, total, "broadcast_add", {})


def of_input(fine, q, low_bits):
    """The Tensor of a layer whose input, of 8 + `low_bits` bits, is split: two layers with the
    same weights, the second with the bias, and their sum."""
    node, x, total = fine.node, fine.entry, fine.total
    factor, factor_bits = q.scalar(2 ** low_bits), arithmetic.bits(2 ** low_bits)
    high = q.shift(x, low_bits, q.weight_precision, node.name)
    attrs = {**fine.attrs, "no_bias": True}
    coarse = q.add(node.op, [high, fine.constants[0]], attrs, node.name)
    width = arithmetic.MAX_BITS - 1 - factor_bits
    if fine.width > width:
        _require(fine, q, low_bits, width)
        coarse = q.clip(coarse, width, node.name)
    else:
        width = fine.width
    coarse = q.add("broadcast_mul", [coarse, factor], {}, node.name)
    shifted_back = q.add("broadcast_mul", [high, factor], {}, node.name)
    rest = q.add("broadcast_sub", [x, shifted_back], {}, node.name)
    rest = q.clip(rest, q.weight_precision, node.name)
    low = q.add(node.op, [rest, *fine.constants], fine.attrs, node.name)
    if total == arithmetic.MAX_BITS:
        low, total = q.clip(low, total - 1, node.name), total - 1
    precision = max(width + factor_bits, total) + 1
    return q.result(node, [coarse, low], fine.scale, precision, "broadcast_add", {})


def _require(fine, q, low_bits, width):
    """MRTError where the sums of the high part are expected to need more than `width` bits."""
    node = fine.node
    needed = arithmetic.bits(q.thresholds[node.name] * np.max(fine.scale) / 2 ** low_bits) + 1
    if needed > width:
        fit = q.weight_precision + max(low_bits + width - min(needed, fine.width), 0)
        raise MRTError(f"node {node.name} ({node.op}) cannot take its input in "
                       f"{q.weight_precision + low_bits} bits: the sums would not fit "
                       f"{arithmetic.MAX_BITS} bits; {fit} bits fit (set_operand_prec, "
                       "Operand_precision)")
