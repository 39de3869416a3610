"""The integers of a layer's weights and bias."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mrt import arithmetic
from mrt.rounding import MAX_WIDTH, compensated

CHUNK_ELEMENTS = 1 << 20


class Operand(NamedTuple):
    """What weights are multiplied with. The arrays broadcast with the weights."""
    scale: float  # the coarsest of its channels
    finer: np.ndarray | None  # how much finer the scale of each is; None where all are alike
    means: np.ndarray | None  # of each in real numbers; None where they are not known


def width_of_products(node, q, x):
    """Bits of the sums of products of the Tensor `x`, or its high part, with the weights."""
    count = int(np.prod(q.param(node, 1).shape[1:]))
    return arithmetic.sum_bits(min(x.precision, q.weight_precision) + q.weight_precision, count)


def integers(node, q, x, width, low_bits=0):
    """(weights, bias, scale of the sums): integers for the input `x`, whose sums of products have
    `width` bits; the bias as int64. Both arrays of scales run over the output channels.
    `low_bits`: how much finer than 8 bits the weights are."""
    weight = q.param(node, 1)
    bias = q.param(node, 2).astype(np.float64) if len(node.inputs) > 2 else np.zeros(len(weight))
    operand = _operand(node, q, x, weight)
    threshold = _thresholds(node, q, operand, bias, width)
    # one scale keeps every way open to what follows
    if threshold.ndim and (threshold.min() == threshold.max() or x.has_rows):
        threshold = threshold.max()
    scale_w = arithmetic.scale_for(threshold, q.weight_precision) * 2 ** low_bits
    of_outputs = np.broadcast_to(scale_w, len(weight))
    limit = arithmetic.code_range(q.weight_precision) << low_bits
    codes = np.empty(weight.shape, np.int32 if low_bits else np.int8)
    gram = None if low_bits else q.gram(node)
    if gram is None:
        _round(codes, weight, operand, of_outputs, limit)
    else:
        _adapt(codes, weight, operand, of_outputs, limit, gram)
    if operand.means is not None:
        for rows in _chunks(weight):
            error = codes[rows] / _steps(operand, of_outputs, rows, weight.ndim) - weight[rows]
            bias[rows] -= rounding_error(error, _rows(operand.means, rows))
    scale = operand.scale * scale_w
    bias = arithmetic.quantize(bias, scale, arithmetic.MAX_BITS).astype(np.int64)
    return codes, bias, x.scale * scale_w if x.has_rows else scale


def _operand(node, q, x, weight):
    if x.has_rows:  # rows with scales of their own have no bias in common
        return Operand(1.0, None, None)
    scale, means = np.min(x.scale), q.mean(node, 0)
    means = None if means is None else per_input_channel(node, means, weight)
    # a channel with a finer scale has larger integers, and smaller weights for them
    finer = None if x.is_uniform else per_input_channel(node, x.scale / scale, weight)
    return Operand(scale, finer, means)


def _thresholds(node, q, operand, bias, width):
    """The bound of the weights that is mapped to 8 bits: one, or one for each output channel."""
    weight = q.param(node, 1)
    threshold = q.weight_threshold(node, 1, largest(weight, operand.finer))
    # A channel of tiny weights with a real bias would otherwise get a scale under which the bias
    # needs more bits than all the products together.
    reach = np.abs(bias) * operand.scale * arithmetic.code_range(q.weight_precision)
    reach = reach / arithmetic.code_range(width)
    threshold = np.maximum(threshold, reach if threshold.ndim else reach.max(initial=0))
    varies = weight.reshape(len(weight), -1).any(axis=1)
    if threshold.ndim and varies.any():
        # A channel that is constant, or zero, can have any scale. One coarser than the others'
        # would cost them bits of the multipliers that follow, which have the coarsest channel to
        # fit.
        others = np.where(bias == 0, threshold[varies].min(), threshold.max())
        threshold = np.where(varies, threshold, others)
    return threshold


def _round(codes, weight, operand, scale_w, limit):
    """Fill in `codes` with the nearest integers."""
    for rows in _chunks(weight):
        exact = np.asarray(weight[rows], np.float64) * _steps(operand, scale_w, rows, weight.ndim)
        codes[rows] = np.clip(np.rint(exact), -limit, limit)


def _adapt(codes, weight, operand, scale_w, limit, gram):
    """Fill in `codes` by adaptive rounding (see `mrt.rounding`). What the errors do to the mean of
    the outputs does not count where the bias makes up for it."""
    groups, parts, size = gram.sums.shape

    def per_input(values, default):
        values = np.full((1, 1), default) if values is None \
            else values[::max(len(values) // groups, 1)]
        values = values.reshape(values.shape + (1,) * (weight.ndim - values.ndim))
        return np.broadcast_to(values, (groups,) + weight.shape[1:]).reshape(groups, parts, size)

    def per_part(values):
        return values.reshape(groups, -1, parts, size).swapaxes(1, 2)

    finer, means = per_input(operand.finer, 1.0), per_input(operand.means, 0.0)
    rounded, scale_w = per_part(codes), scale_w.reshape(groups, -1)
    step = max(1, CHUNK_ELEMENTS // (size * (size + len(weight) // groups)))
    for begin in range(0, groups, step):
        for part in range(parts):
            place = slice(begin, begin + step), part
            larger = finer[place][:, None, :]
            moments = gram.moments(place, means) * larger * larger.swapaxes(1, 2)
            moments += np.eye(size) / (12 * operand.scale ** 2)  # the rounding of the inputs
            exact = per_part(weight)[place] * (scale_w[place[0]][:, :, None] / larger)
            rounded[place] = compensated(exact, moments, limit)


def gram_parts(weight):
    """Into how many parts the input channels of a group are divided for a rounding.Gram: so that
    none holds more than MAX_WIDTH inputs of an output."""
    channels, window = weight.shape[1], int(np.prod(weight.shape[2:]))
    divisors = (n for n in range(1, channels + 1) if channels % n == 0)
    return next((n for n in divisors if channels // n * window <= MAX_WIDTH), channels)


def per_input_channel(node, vector, weight):
    """One value per input channel of a layer, shaped to broadcast with its weights."""
    groups = node.int("num_group", 1)
    rows = vector.reshape((groups, -1) + (1,) * (weight.ndim - 2))
    return rows if groups == 1 else np.repeat(rows, len(weight) // groups, axis=0)


def rounding_error(error, means):
    """What the rounding of the weights adds to each output on average: sum of error * mean input
    (Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019,
    section 4.2)."""
    return (error * means).reshape(len(error), -1).sum(axis=1)


def largest(weight, finer):
    """Largest absolute value of weight / finer for every output channel; `finer` None stands for
    1."""
    found = []
    for rows in _chunks(weight):
        part = weight[rows] if finer is None else weight[rows] / _rows(finer, rows)
        part = part.reshape(len(part), -1)
        found.append(np.maximum(part.max(axis=1), -part.min(axis=1)))
    return np.concatenate(found).astype(np.float64)


def _steps(operand, scale_w, rows, rank):
    """Integers per unit of the weights of the given output channels."""
    column = np.reshape(scale_w[rows], (-1,) + (1,) * (rank - 1))
    return column if operand.finer is None else column / _rows(operand.finer, rows)


def _chunks(weight):
    """Slices of output channels, so that float64 copies of large weights stay small."""
    size = max(1, CHUNK_ELEMENTS // max(int(np.prod(weight.shape[1:])), 1))
    return [slice(i, i + size) for i in range(0, len(weight), size)]


def _rows(values, rows):
    """The given output channels of values that may be the same for all of them."""
    return values if len(values) == 1 else values[rows]
