"""Adaptive rounding of weights: what one weight loses by rounding, the others of the same output make up for.

The error of a layer's output is e x for the errors e of the weights of that output, and its mean square e H e^T with the
second moments H of the inputs over the calibration data. Rounding every weight to the nearest integer makes the elements of e
small, which is best only if the inputs are independent. Here weights are rounded one after the other, and those still to come
are moved to where they cancel most of the error so far (Frantar et al., "OPTQ: Accurate quantization for generative
pre-trained transformers", ICLR 2023, arXiv 2210.17323). This module takes the equivalent form without an inverse, Babai's
nearest plane in the lattice of the Cholesky factor of H (Chen et al., "The geometry of LLM quantization", 2025, arXiv
2507.18553).
"""
import numpy as np

__all__ = ["MAX_WIDTH", "Gram", "compensated"]

MAX_WIDTH = 1152  # inputs of an output that are rounded together; memory grows with its square
DAMPING = 1e-4  # of the mean variance, for inputs that never vary
BLOCK = 64  # columns between two matrix products


class Gram:
    """Second moments of a layer's inputs, as its weights meet them: for every group, and every part of the inputs of a group,
    those of `size` inputs. Memory does not grow with the data."""

    __slots__ = ("count", "products", "sums")

    def __init__(self, products=0.0, sums=0.0, count=0):
        self.products, self.sums, self.count = products, sums, count

    def update(self, inputs):
        """`inputs`: array (groups, parts, size, positions). Its products are formed in float64, because of inputs with a small
        variance about a large mean."""
        inputs = inputs.astype(np.float64)
        self.products = self.products + np.matmul(inputs, inputs.swapaxes(2, 3))
        self.sums = self.sums + inputs.sum(axis=3)
        self.count += inputs.shape[3]

    def __add__(self, other):
        return Gram(self.products + other.products, self.sums + other.sums, self.count + other.count)

    def moments(self, place, means):
        """E (x - means)(x - means)^T of the inputs at `place`, an index of groups and parts: (..., size, size) float64.

        What few positions cannot tell of many inputs is left out: the fewer there are, the smaller count the elements beside
        the diagonal, without which the best rounding is the nearest (after Ledoit and Wolf, "A well-conditioned estimator for
        large-dimensional covariance matrices", 2004, with the share of noise bounded by size / count).
        """
        sums, means = self.sums[place] / self.count, means[place]
        products = self.products[place] / self.count + _outer(means - sums, means - sums) - _outer(sums, sums)
        diagonal = np.einsum("...ii->...i", products).copy()
        products *= self.count / (self.count + products.shape[-1])
        np.einsum("...ii->...i", products)[...] = diagonal
        return products


def compensated(weights, moments, limit):
    """Integers within +-`limit` near the real `weights` (..., outputs, size), all float64, with a small mean square error of
    the outputs for inputs of the given `moments` (..., size, size), one matrix for all outputs."""
    diagonal = np.einsum("...ii->...i", moments)
    damping = DAMPING * diagonal.mean(axis=-1, keepdims=True)
    moments = moments + np.where(damping > 0, damping, 1.0)[..., None] * np.eye(moments.shape[-1])
    order = np.argsort(diagonal, axis=-1, kind="stable")  # the last, which come first, find most others to make up for them
    moments = np.take_along_axis(np.take_along_axis(moments, order[..., None, :], -1), order[..., :, None], -2)
    weights = np.take_along_axis(weights, order[..., None, :], -1)
    lower = np.linalg.cholesky(moments)
    lower /= np.einsum("...ii->...i", lower)[..., None, :].copy()
    codes, errors = np.empty_like(weights), np.zeros_like(weights)
    for end in range(weights.shape[-1], 0, -BLOCK):
        begin = max(end - BLOCK, 0)
        aims = weights[..., begin:end] + np.matmul(errors[..., end:], lower[..., end:, begin:end])
        for i in range(end - 1, begin - 1, -1):
            codes[..., i] = np.clip(np.rint(aims[..., i - begin]), -limit, limit)
            errors[..., i] = weights[..., i] - codes[..., i]
            aims[..., :i - begin] += errors[..., i, None] * lower[..., None, i, begin:i]
    result = np.empty_like(codes)
    np.put_along_axis(result, np.broadcast_to(order[..., None, :], codes.shape), codes, -1)
    return result


def _outer(a, b):
    return a[..., :, None] * b[..., None, :]
