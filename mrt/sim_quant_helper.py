"""Conversions between real and integer data, and the `.ext` files beside checkpoints."""
import json
import logging
import os

import numpy as np

from mrt.arithmetic import code_range, scale_for
from mrt.errors import ModelError, plain_error
from mrt.files import atomic_write, read_text, sha256
from mrt.mxnet_bridge import mx

__all__ = ["cvm_float", "extract_float", "float_bin", "get_sim_scale", "int_realize", "load_ext", "load_real_data",
           "load_sim_data", "save_ext"]


MAX_EXT_BYTES = 1 << 30


def get_sim_scale(alpha, target_bit):
    """Scale that maps +-alpha to the full range of `target_bit` bits; 1 when alpha is 0."""
    return scale_for(alpha, target_bit)


def int_realize(data, target_bit, logger=logging):
    """Round an NDArray to the nearest integers and clip to +-(2^(target_bit-1) - 1); warns when that clips anything."""
    limit = code_range(target_bit)
    rounded = np.rint(data.asnumpy().astype(np.float64))
    clipped = int((np.abs(rounded) > limit).sum())
    if clipped:
        logger.warning("%d of %d values clipped to %d bits; the largest is %g", clipped, rounded.size, target_bit,
                       np.abs(rounded).max())
    return mx.nd.array(np.clip(rounded, -limit, limit), ctx=data.context, dtype=data.dtype)


def load_sim_data(data, name, inputs_ext):
    """`data` (NDArray) in units of the integer input `name`, not rounded."""
    return data * inputs_ext[name]["scale"]


def load_real_data(data, name, inputs_ext):
    """The integers a quantized model takes for the real NDArray `data`: scaled, rounded to nearest (halves to even), clipped;
    a tensor of the type of `data` that holds integers, or of float64 where that type cannot hold all integers of the precision.

    The product is formed in float64, so that the integers do not depend on the type the data arrive in.
    """
    scale, precision = inputs_ext[name]["scale"], inputs_ext[name]["target_bit"]
    codes = np.clip(np.rint(data.asnumpy().astype(np.float64) * scale), -code_range(precision), code_range(precision))
    exact = np.dtype(data.dtype).kind == "f" and precision <= np.finfo(data.dtype).nmant + 1
    return mx.nd.array(codes, ctx=data.context, dtype=data.dtype if exact else "float64")


def save_ext(fname, *infos):
    """Write one JSON document per line, in argument order. TypeError for what JSON cannot hold; no file is written then."""
    atomic_write(fname, "".join(json.dumps(info) + "\n" for info in infos))


def load_ext(fname):
    """Tuple of the decoded lines of a file written by `save_ext`, or of the `ext` of a compiled model. ModelError when it cannot
    be read, or was written with other files than lie beside it."""
    try:
        lines = tuple(json.loads(line) for line in read_text(fname, MAX_EXT_BYTES).split("\n") if line.strip())
    except OSError as error:
        raise ModelError(f"{plain_error(error)}; write the checkpoint again") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{fname} is damaged: {error}; write the checkpoint again") from None
    _require_digests(fname, lines)
    return lines


def _require_digests(ext_file, lines):
    """ModelError where the last line holds the SHA-256 of files beside the `.ext` file (`<prefix>.<word>`, beside `ext` just
    `<word>`), and one that is there has another. Files of the original say nothing of it."""
    digests = lines[-1].get("sha256") if lines and isinstance(lines[-1], dict) else None
    prefix = os.fspath(ext_file)[:-len("ext")]
    for word, digest in digests.items() if isinstance(digests, dict) else ():
        if os.path.isfile(prefix + word) and sha256(prefix + word) != digest:
            raise ModelError(f"{prefix + word} is not the file that {ext_file} was written with: they are parts of two models; "
                             "write them again")


def cvm_float(number, bits=24):
    """Integers (frac, exp) with number about frac * 2^exp and frac in `bits` bits, for number >= 0 (the original's rule)."""
    if number == 0:
        return 0, 0
    mantissa, exponent = np.frexp(float(number))
    mantissa, exponent = float(mantissa) * 2, int(exponent) - 1
    for _ in range(bits - 2):
        if mantissa == int(mantissa):
            break
        mantissa, exponent = mantissa * 2, exponent - 1
    return min(round(mantissa), max(code_range(bits), 1)), exponent


def float_bin(number, places=24):
    """(frac, exp) with number = frac * 2^exp exactly for a single-precision number of at most `places` significant bits."""
    mantissa, exponent = np.frexp(np.float32(number))
    frac, exponent = int(np.rint(float(mantissa) * 2 ** places)), int(exponent) - places
    while frac and frac % 2 == 0:
        frac, exponent = frac // 2, exponent + 1
    return frac, exponent if frac else 0


def extract_float(number):
    """`float_bin` with all 24 bits of single precision."""
    return float_bin(number)
