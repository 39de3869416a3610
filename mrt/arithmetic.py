"""The numbers of quantization: pure functions on numpy, without MXNet.

    real value = integer / scale
    a precision p (bits, sign included) allows the integers -(2^(p-1)-1) .. 2^(p-1)-1

Every integer of a quantized network fits 32 bits. A real rescaling factor becomes `multiply by an integer, shift right`
(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
section 2.2), with the widths chosen so that the product fits too.
"""
from typing import NamedTuple, Optional

import numpy as np

from mrt.errors import MRTError

__all__ = ["MAX_BITS", "Rescale", "apply_rescale", "bits", "code_range", "count_bits", "plan_rescale", "quantize", "scale_for",
           "sum_bits"]

MAX_BITS = 32  # width of every integer of the runtime
MULTIPLIER_BITS = 12  # at least so many bits for a multiplier: its relative error is below 2^-11
MOST_MULTIPLIER_BITS, SPREAD_BITS = 16, 5  # up to so many for factors further apart than 2^5
MAX_SHIFT = 32
WIDE_MARGIN = 2.0  # where 15 bits or more hold a tensor, data not seen in calibration may exceed its threshold twofold


def code_range(precision):
    """The largest integer of a precision: 2^(p-1) - 1; its negative is the smallest."""
    return 2 ** (int(precision) - 1) - 1


def bits(values):
    """The smallest precision whose range holds every value: ceil(log2(max|x| + 1)) + 1. bits(127) = 8, bits(0) = 1."""
    largest = int(np.ceil(np.max(np.abs(values), initial=0)))
    return largest.bit_length() + 1


def count_bits(count):
    """Bits by which a sum of `count` terms can grow: the length of `count` in binary (the runtime's rule)."""
    return int(count).bit_length()


def sum_bits(precision, count):
    """Precision of a sum of `count` integers of `precision` bits."""
    return precision + count_bits(count)


def scale_for(threshold, precision):
    """The scale that maps +-threshold to the full range of a precision; 1 where the threshold is 0."""
    threshold = np.asarray(threshold, np.float64)
    if (threshold < 0).any() or not np.isfinite(threshold).all():
        raise MRTError(f"a threshold must be finite and not negative, found {threshold}")
    scale = np.where(threshold > 0, code_range(precision) / np.where(threshold > 0, threshold, 1), 1.0)
    return float(scale) if scale.ndim == 0 else scale


def quantize(values, scale, precision):
    """round(values * scale), clipped to the range of the precision; float64 in, int32 out. Halves round to even."""
    limit = code_range(precision)
    return np.clip(np.rint(np.asarray(values, np.float64) * scale), -limit, limit).astype(np.int32)


class Rescale(NamedTuple):
    """How an integer x of `in_precision` bits becomes about x * factor in `precision` bits. In order:

    `narrow` (or None) and `pre_shift`: x is clipped to `narrow` bits, or, when pre_shift > 0, shifted right by it first;
    `multiplier`: an integer, or an int32 vector for one factor per channel;
    `shift`: shift right by so many bits, halves up, and clip to `precision` (0: clip alone).
    """
    narrow: Optional[int]
    pre_shift: int
    multiplier: object
    shift: int
    precision: int

    @property
    def factor(self):
        """The factor really applied (a float or a vector of them)."""
        return self.multiplier / 2.0 ** (self.shift + self.pre_shift)


def plan_rescale(factor, in_precision, bound_bits, precision):
    """The Rescale for a positive `factor` (scalar, or a vector of one per channel).

    in_precision: proven width of the integers that come in
    bound_bits:   width that holds all values of interest (from the calibrated threshold); wider values may saturate
    precision:    width wanted

    The multiplier has 32 - width bits, so that the product has at most 32; when fewer than 12 would remain, or up to 16 where
    the factors of the channels differ much, the input is shifted right first.
    """
    factor = np.asarray(factor, np.float64)
    if not (factor > 0).all() or not np.isfinite(factor).all():
        raise MRTError(f"a rescaling factor must be positive and finite, found {factor}")
    factor = np.minimum(factor, max(code_range(precision), 1))  # beyond that every integer but 0 ends at the largest output
    saturating = code_range(precision) / factor.min()  # inputs beyond this end at the largest output, however wide they are
    width = max(min(in_precision, bound_bits, bits(min(saturating, 2.0 ** MAX_BITS))), 1)
    # the bits count for the largest factor; where another is much smaller, more of them leave it some
    multiplier_bits = min(MULTIPLIER_BITS + _spread_bits(factor.max() / factor.min()), MOST_MULTIPLIER_BITS)
    pre_shift = max(0, width - (MAX_BITS - multiplier_bits))
    width -= pre_shift
    narrow = width if width < in_precision else None
    limit = code_range(MAX_BITS - width)
    exponent = int(np.floor(np.log2(limit / factor.max())))
    if round(float(factor.max()) * 2.0 ** exponent) > limit:
        exponent -= 1
    exponent = min(exponent, MAX_SHIFT + pre_shift)
    if factor.ndim == 0:  # an odd multiplier leaves the smaller constant, and often none at all
        multiplier = round(float(factor) * 2.0 ** exponent)
        while multiplier and multiplier % 2 == 0 and exponent > pre_shift:
            multiplier, exponent = multiplier // 2, exponent - 1
    else:
        multiplier = np.rint(factor * 2.0 ** exponent).astype(np.int32)
    if exponent < pre_shift:
        raise MRTError(f"cannot scale {in_precision}-bit integers up by {factor.max():.3g} inside {MAX_BITS} bits; "
                       "give the tensor a smaller precision (set_operand_prec, set_input_prec, op_input_precs) or a larger "
                       "threshold (set_threshold, Thresholds in [QUANTIZATION])")
    return Rescale(narrow, pre_shift, multiplier, exponent - pre_shift, precision)


def most_factor(in_precision, bound_bits, spread=1.0):
    """The largest factor that `plan_rescale` can plan for, of factors of which the largest is `spread` times the smallest."""
    width = max(min(in_precision, bound_bits), 1)
    multiplier = min(MULTIPLIER_BITS + _spread_bits(spread), MOST_MULTIPLIER_BITS)
    pre_shift = max(0, width - (MAX_BITS - multiplier))
    return code_range(MAX_BITS - width + pre_shift) / 2.0 ** pre_shift


def _spread_bits(spread):
    """Bits that a multiplier needs beyond the usual for factors so far apart."""
    return max(0, int(np.ceil(np.log2(spread))) - SPREAD_BITS)


def shift_right(x, shift, precision):
    """The runtime's cvm_right_shift: x / 2^shift with halves rounded up, clipped to the precision. int64 in and out."""
    limit = code_range(precision)
    return np.clip(((x >> (shift - 1)) + 1) >> 1, -limit, limit)


def apply_rescale(x, plan):
    """What the integer graph made from `plan` computes, in int64; a vector multiplier runs along the last axis of x."""
    x = np.asarray(x, np.int64)
    if plan.pre_shift:
        x = shift_right(x, plan.pre_shift, plan.narrow)
    elif plan.narrow:
        x = np.clip(x, -code_range(plan.narrow), code_range(plan.narrow))
    x = x * plan.multiplier
    if plan.shift:
        return shift_right(x, plan.shift, plan.precision)
    return np.clip(x, -code_range(plan.precision), code_range(plan.precision))
