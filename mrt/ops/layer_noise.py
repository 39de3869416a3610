"""What rounding a layer's input and weights adds to its outputs."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mrt.arithmetic import code_range
from mrt.ops.layer_weights import largest, per_input_channel


class Counts(NamedTuple):
    """How much an error of variance 1 counts, up to a common factor."""
    input: np.ndarray  # in every input channel
    weight_inputs: np.ndarray  # in the weights of every input channel
    outputs: np.ndarray | float  # in every output


def of_bounds(node, q, bounds, limit, counts):
    """The noise of a layer for each of several vectors of input channel bounds, which are mapped
    to `limit`.

    Rounding the input adds (bound / limit)^2 w^2 per product; rounding a weight, whose step comes
    from the largest |w| * bound of its output, adds step^2 * square / bound^2.
    """
    weight, noise = q.param(node, 1), []
    for bound in bounds:
        steps = largest(weight, 1 / per_input_channel(node, bound, weight))
        steps = steps / code_range(q.weight_precision)
        shares = per_input_channel(node, counts.weight_inputs / bound ** 2, weight)
        shares = shares * int(np.prod(weight.shape[2:]))
        shares = shares.reshape(len(shares), -1).sum(axis=1)
        of_input = (counts.input * bound ** 2).sum() / limit ** 2
        noise.append(float(of_input + (steps ** 2 * shares * counts.outputs).sum()))
    return np.array(noise)


def weight_steps(node, x, shares, scale, weight):
    """What one unit of the weights stands for in each output channel (see Layer.weight_steps)."""
    if x.is_uniform:
        return x.scale / scale
    over = tuple(range(1, weight.ndim))
    power = per_input_channel(node, shares * x.scale ** 2, weight).sum(axis=over)
    total = per_input_channel(node, shares, weight).sum(axis=over)
    return np.sqrt(power / np.maximum(total, 1e-300)) / scale
