"""Where accuracy is lost: every tensor of the float network beside its integers, on a few batches.

    mrt inspect CONFIGURATION.ini [--batches N] [--top N] [--json FILE] [--html FILE]

runs the stages of `mrt run` up to calibration (or loads what they kept), quantizes, and
computes both networks node by node. In Python, with a calibrated MRT object: `print(inspect(mrt, batches).table())`.

A node is judged by what its consumers take of it: the integers after rescaling and clipping. So a threshold that is too small
shows at the node it belongs to. Where consumers take it in several ways, the one with the largest effect counts.

    snr_db       10 log10(sum of squares of the float values / sum of squares of the error)
    drop_db      SNR of the best input, as the node takes it, less the node's own
    added_noise  noise the node adds, as a share of its signal's power: 1/SNR - 1/(SNR of the best input), never below 0
    effect       what it adds to the noise of the network's outputs, as a share of their power; the order of the table. Estimated:
                 of a layer it is what the rounding of its input and weights adds, as calibration found it to spread; elsewhere
                 what rounding and clipping make of what a consumer takes, and no more than its result still has
    gain         share of the outputs' noise that goes when the node is computed in floating point (set_restore), measured on a
                 few samples for the nodes of the largest effect, which is then the measured one. They stand before those of
                 which there is an estimate only, but for ranges that do not suit the values, which no floating point cures
    saturated    share of the float values beyond the range of the integers by more than half a step
    clip_noise   share of the error's power in those values
    bits_used    bits that the largest integer needs, out of `precision`
    margin_bits  32 less the bits proven to hold the node's result
"""
import argparse
import copy
import dataclasses
import html
import json
import math
import os
import sys
from typing import Optional

import numpy as np

from mrt import arithmetic, simulate
from mrt import sim_quant_helper as sim
from mrt.arithmetic import code_range
from mrt.commands.configured import run_configured
from mrt.commands.guard import guarded
from mrt.errors import MRTError, StateError
from mrt.execute import infer_shapes, run_in_step
from mrt.files import atomic_write
from mrt.graph import Graph
from mrt.mxnet_bridge import mx
from mrt.ops import OPERATORS, is_layer, operator_of
from mrt.pipeline import config, stages
from mrt.progress import Progress
from mrt.quantization import calibrate
from mrt.quantization.bias import correct_means
from mrt.quantization.quantize import MIN_SHARE, Tensor, two_parts

__all__ = ["Comparison", "Report", "inspect", "main"]

BINS = 40
PART_ELEMENTS = 1 << 20
CLIPPING = 0.5  # share of the error from which a range is called too small
MEASURED, SAMPLES = 8, 4  # nodes whose gain is measured, on so many samples
ADVISED = 10  # nodes for which the table of the page says what to try
CLEAN = 40.0  # dB from which a node needs no advice
RARE = 1e-3  # share of values beyond the range up to which they are outliers, and not a threshold that is wrong
BIASED = 0.5  # share of the error from which its mean is worth correcting
LOOSE = 4  # a threshold so many times the largest value is called too large
OUTPUT = "(output)"
ROUNDED = 10  # in more bits rounding is no matter


# ---- the numbers -----------------------------------------------------------------------------------------------------

class Comparison:
    """Accumulates the differences between float values and the real values of integers, over any number of batches."""

    def __init__(self):
        self.count = self.beyond = 0
        self.signal = self.approximate = self.product = self.noise = self.clip_noise = 0.0
        self.max_value = self.max_error = 0.0
        self.low = self.high = None
        self.histograms = np.zeros((2, BINS), np.int64)

    def update(self, real, found, low=-np.inf, high=np.inf, step=0.0):
        """`real`, `found`: arrays of one shape. The integers behind `found` reach from `low` to `high` in steps of `step`
        (numbers, or arrays that broadcast)."""
        real, found = np.asarray(real, np.float64), np.asarray(found, np.float64)
        error = found - real
        beyond = (real > high + step / 2) | (real < low - step / 2)
        self.count += real.size
        self.beyond += int(beyond.sum())
        self.signal += float((real ** 2).sum())
        self.approximate += float((found ** 2).sum())
        self.product += float((real * found).sum())
        self.noise += float((error ** 2).sum())
        self.clip_noise += float((error[beyond] ** 2).sum())
        self.max_value = max(self.max_value, float(np.abs(real).max(initial=0)))
        self.max_error = max(self.max_error, float(np.abs(error).max(initial=0)))
        self._count(real, found)

    def _count(self, *arrays):
        if self.low is None:  # later batches count at the ends what lies beyond
            self.low = float(min(a.min(initial=0) for a in arrays))
            self.high = float(max(a.max(initial=0) for a in arrays))
        width = self.high - self.low or 1.0
        for row, values in zip(self.histograms, arrays):
            places = np.clip((values.ravel() - self.low) * (BINS / width), 0, BINS - 1).astype(np.int64)
            row += np.bincount(places, minlength=BINS)

    @property
    def relative_noise(self):
        """Power of the error over power of the signal; infinite for an error on a signal that is 0 throughout."""
        if self.signal == 0:
            return math.inf if self.noise else 0.0
        return self.noise / self.signal

    @property
    def snr_db(self):
        return _decibel(self.relative_noise)

    @property
    def cosine(self):
        length = math.sqrt(self.signal * self.approximate)
        return self.product / length if length else float(self.signal == self.approximate)

    @property
    def saturated(self):
        return self.beyond / self.count if self.count else 0.0


def _decibel(relative_noise):
    """SNR of a relative noise: +-inf for none and for nothing but noise."""
    return -10 * math.log10(relative_noise) if 0 < relative_noise < math.inf else -math.inf if relative_noise else math.inf


# ---- what the consumers take -----------------------------------------------------------------------------------------

class Recording:
    """Before a quantizer among the bases of a class: quantizes as ever, and keeps what every consumer takes of its inputs:
    `taken[consumer, i]` = (source, Tensor, zero)."""

    def __init__(self, *args):
        super().__init__(*args)
        self.taken = {}

    def _record(self, node, i, tensor, zero=0):
        self.taken[node, i] = self.source(node, i), tensor, zero

    def tensor(self, node, i, moved=False):
        tensor = super().tensor(node, i, moved)
        self._record(node, i, tensor)
        return tensor

    def uniform(self, node, i):
        tensor = super().uniform(node, i)
        self._record(node, i, tensor)
        return tensor

    def requantize(self, node, i, precision):
        tensor = super().requantize(node, i, precision)
        self._record(node, i, tensor)
        return tensor

    def within(self, node, i, precision):
        tensor = super().within(node, i, precision)
        self._record(node, i, tensor)
        return tensor

    def as_wide(self, node, i, precision=16):
        tensor = super().as_wide(node, i, precision)
        self._record(node, i, tensor)
        return tensor

    def channelwise(self, node):
        tensor = super().channelwise(node)
        self._record(node, 0, tensor)
        return tensor

    def operand(self, node, i):
        tensor, zero = super().operand(node, i)
        self._record(node, i, tensor, zero)
        return tensor, zero

    def at_scale(self, node, i, precision, scale):
        entry = super().at_scale(node, i, precision, scale)
        self._record(node, i, Tensor(entry, scale, precision))
        return entry


class Probe:
    """One way in which consumers take a node: its integers and how they differ from the float values. `flat`: beyond it nothing
    changes for those who take it, as for a sigmoid."""

    def __init__(self, tensor, zero, flat=np.inf):
        self.tensor, self.zero, self.flat, self.consumers = tensor, zero, flat, []
        self.comparison, self.max_code = Comparison(), 0.0
        # of every channel: sums of the errors, of the squares of those that come of clipping, and their number
        self.errors, self.clipped, self.count = 0.0, 0.0, 0
        self.zeros = 0  # values that are 0 exactly, which rounding leaves alone

    def update(self, real, codes):
        """One batch: float values and integers, arrays of one shape. Few samples at a time, so that copies stay small."""
        scale = np.asarray(self.tensor.scale, np.float64)
        scale = scale.reshape((1, -1) + (1,) * (codes.ndim - 2)) if scale.ndim == 1 else scale
        if scale.ndim and len(scale) > 1:  # rows, of as many samples as the network was prepared for
            scale = np.resize(scale, (len(codes), *scale.shape[1:]))
        limit = code_range(self.tensor.precision)
        samples = max(1, PART_ELEMENTS * len(codes) // max(codes.size, 1))
        for i in range(0, len(codes), samples):
            part = codes[i:i + samples] - self.zero
            of_part = scale[i:i + samples] if scale.ndim and len(scale) > 1 else scale
            found, wanted = part / of_part, np.asarray(real[i:i + samples], np.float64)
            if self.flat < np.inf:
                found, wanted = (np.clip(values, -self.flat, self.flat) for values in (found, wanted))
            low, high = (-limit - self.zero) / of_part, (limit - self.zero) / of_part
            self.max_code = max(self.max_code, float(np.abs(part).max(initial=0)))
            self.zeros += int((wanted == 0).sum())
            self.comparison.update(wanted, found, low, high, 1 / of_part)
            if codes.ndim > 1:
                error, others = found - wanted, (0,) + tuple(range(2, codes.ndim))
                beyond = (wanted > high + 0.5 / of_part) | (wanted < low - 0.5 / of_part)
                self.errors = self.errors + error.sum(axis=others)
                self.clipped = self.clipped + (np.square(error) * beyond).sum(axis=others)
                self.count += error.size // error.shape[1]

    @property
    def mean_share(self):
        """Share of the error's power in the mean errors of channels."""
        noise = self.comparison.noise
        return float((np.square(self.errors) / self.count).sum() / noise) if noise and self.count else 0.0

    @property
    def bits_used(self):
        """Bits of the largest integer; one less where the integers were shifted because they are never negative."""
        return arithmetic.bits(self.max_code) - bool(self.zero)


def _probes(graph, quantizer, result):
    """node -> list of Probe, in topological order; consumer and input -> Probe."""
    probes = {node: [] for node in graph.topological() if not graph.is_param(node)}
    by_entry, by_input = {}, {}

    def add(source, tensor, zero, consumer, flat=np.inf):
        key = source, tensor.entry, zero, flat
        if key not in by_entry:
            by_entry[key] = Probe(tensor, zero, flat)
            probes[source].append(by_entry[key])
        by_entry[key].consumers.append(consumer)
        return by_entry[key]

    for (consumer, i), (source, tensor, zero) in quantizer.taken.items():
        if not graph.is_param(source):
            by_input[consumer, i] = add(source, tensor, zero, consumer.name, operator_of(consumer).flat(consumer))
    for entry, tensor in zip(graph.outputs, result.outputs):
        if not graph.is_param(entry.node):
            add(entry.node, tensor, 0, OUTPUT)
    for node, found in probes.items():
        if not found:  # no consumer looks at its values
            add(node, result.tensors[node.name], 0, "")
    return probes, by_input


def inspect(mrt, batches, progress=None):
    """Compare both networks on `batches` (NDArrays of the network's input) and return a Report.

    mrt: a calibrated MRT object with all settings made, not quantized; it is left as it is. Memory holds the tensors that are
    live in either network, for one batch. `progress` is called with the number of samples of each batch. The network is quantized
    once more for each node whose gain is measured.
    """
    if mrt.current_model.is_quantized():
        raise StateError("inspection takes a calibrated MRT object before quantize, because it needs the float network")
    if not mrt.th_dict:
        raise StateError("inspection needs thresholds: call set_data and calibrate first, or set_th_dict")
    graph = mrt.current_model.graph
    shapes = infer_shapes(graph)
    kind, options = mrt.quantizer()
    facts = graph, shapes, mrt.th_dict, mrt.channels, options, mrt.sensitivities
    quantizer = type("Recorder", (Recording, kind), {})(*facts, two_parts(*facts, kind), mrt.grams)
    result = quantizer.run()
    if options.bias_correction == "empirical":
        correct_means(graph, result, mrt.samples)
    probes, by_input = _probes(graph, quantizer, result)
    flat = [(node, probe) for node, found in probes.items() for probe in found]
    integers = simulate.lower(Graph([probe.tensor.entry for _, probe in flat], quantizer.params))
    targets = {}
    for (node, probe), entry in zip(flat, integers.outputs):
        targets.setdefault(entry.node, []).append((entry.index, node, probe))
    data = result.tensors["data"]
    ext = {"data": {"scale": data.scale, "target_bit": data.precision}}
    counted, samples, few = 0, 0, []
    for batch in batches:
        few = few or calibrate.units(graph, batch[:max(SAMPLES, shapes[graph.find("data")][0][0])])
        codes = sim.load_real_data(batch.astype("float64"), "data", ext)
        _compare(graph, integers, targets, {node: len(found) for node, found in probes.items()}, batch, codes)
        counted, samples = counted + 1, samples + len(batch)
        if progress:
            progress(len(batch))
    if not counted:
        raise MRTError("inspection needs at least one batch of data, found none")
    rows = [_row(place, node, probes, by_input, quantizer, result) for place, node in enumerate(probes)]
    return Report(_with_gains(rows, mrt, few), counted, samples)


def _with_gains(rows, mrt, batches):
    """The rows, those of the MEASURED nodes of the largest effect with their gains on `batches`."""
    floats = mrt.current_model.to_graph()
    wanted = [_listed(floats(mx.nd.array(batch))) for batch in batches]
    whole, found = _output_noise(mrt, batches, wanted), list(rows)
    suspects = [row for row in sorted(rows, key=_by_effect) if row.effect > 0 and not row.has_wrong_range]
    for row in suspects[:MEASURED] if whole else ():
        gone = whole - _output_noise(mrt, batches, wanted, row.name)
        found[row.place] = dataclasses.replace(row, gain=gone / whole, effect=max(gone, 0.0))
    return found


def _output_noise(mrt, batches, wanted, restored=None):
    """Noise of the outputs over their power, with the settings of `mrt` and one more node computed in floating point."""
    trial = copy.copy(mrt)
    trial.precs, trial.restore_names = copy.deepcopy(mrt.precs), mrt.restore_names | ({restored} if restored else set())
    integers = trial.quantize().to_graph()
    noise, power = 0.0, 0.0
    for batch, values in zip(batches, wanted):
        codes = sim.load_real_data(mx.nd.array(batch, dtype="float64"), "data", trial.get_inputs_ext())
        for found, scale, real in zip(_listed(integers(codes)), trial.get_output_scales(), values):
            noise, power = noise + np.square(found / scale - real).sum(), power + np.square(real).sum()
    return float(noise / power) if power else 0.0


def _listed(outputs):
    """float64 arrays of what a gluon block gives."""
    return [value.asnumpy().astype(np.float64) for value in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def _by_effect(row):
    return -row.effect, -row.added_noise, row.place


def _compare(graph, integers, targets, pending, batch, codes):
    """Run both graphs in step on one batch. A float value is kept until all its integers were there."""
    floats, held = run_in_step(graph, [batch]), {}
    for computed, _, [results] in run_in_step(integers, [codes], "float64"):
        for index, node, probe in targets.get(computed, ()):
            while node not in held:
                following, _, [values] = next(floats)
                if following in pending:
                    held[following] = values[0].asnumpy()
            probe.update(held[node], results[index].asnumpy())
            pending[node] -= 1
            if not pending[node]:
                held[node] = None


# ---- the report ------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Row:
    """All that is said of one node; see the top of this module."""
    place: int  # in topological order
    name: str
    op: str
    shape: tuple  # of one sample
    threshold: float
    snr_db: float
    drop_db: float
    added_noise: float
    effect: float
    cosine: float
    max_error: float
    max_value: float
    saturated: float
    clip_noise: float
    precision: int
    bits_used: int
    margin_bits: int
    rounding: tuple  # of a layer: what the rounding of its input and of its weights adds to the outputs; else empty
    mean_share: float  # share of the error's power in the mean errors of channels
    smallest: float  # the least range of a channel, as a share of the threshold
    spare_bits: int  # of a layer: how many more than 8 its input may have (set_operand_prec)
    consumers: tuple  # who take it in this, the worst, way
    others: tuple  # (consumers, precision, SNR) of the other ways
    advice: tuple
    low: float  # ends of the histograms
    high: float
    histograms: tuple  # counts of float values and of integers' real values
    gain: Optional[float] = None  # None where it was not measured

    @property
    def has_wrong_range(self):
        """Is it the range of the integers that loses most, or that of the input, rather than what the node computes?"""
        clipped = self.saturated > RARE and self.clip_noise >= CLIPPING
        return self.op == "input" or clipped or self.threshold > LOOSE * self.max_value > 0

    def plain(self):
        """For JSON, which has no infinities: those are null, with `exact` saying which."""
        values = dataclasses.asdict(self)
        values["exact"] = self.snr_db == math.inf
        values["others"] = [{"consumers": list(c), "precision": p, "snr_db": s} for c, p, s in self.others]
        return _finite(values)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _row(place, node, probes, by_input, quantizer, result):
    noise = quantizer.noise.get(node, ())  # of a layer
    if noise:
        taken = by_input[node, 0]
        noise = noise[0] * (1 - taken.zeros / taken.comparison.count), noise[1]
    effects = [(_effect(node, probe, probes, by_input, quantizer, result), place, probe)
               for place, probe in enumerate(probes[node])]
    ordered = [probe for _, _, probe in sorted(effects, key=lambda entry: (-entry[0], entry[1]))]
    probe, clipping = ordered[0], max(effect for effect, _, _ in effects)
    c = probe.comparison
    before = _before(node, by_input)
    now, snr = c.relative_noise, c.snr_db
    drop = 0.0 if now == before or node.is_variable else _decibel(before) - snr
    added = max(now - before, 0.0) if now < math.inf else math.inf
    seen, threshold = quantizer.channels.get(node.name), quantizer.thresholds[node.name]
    ranges = seen.bound[seen.square > 0] / threshold if seen is not None and threshold > 0 else np.ones(0)
    spare = operator_of(node).room_for_parts(node, quantizer) if is_layer(node) else 0
    effect = clipping + (added if is_layer(node) and not noise else sum(noise))
    row = Row(place, node.name, "input" if node.is_variable else node.kind, tuple(quantizer.shapes[node][0][1:]), threshold,
              snr, drop, added, effect, c.cosine, c.max_error,
              max(p.comparison.max_value for p in ordered), c.saturated, c.clip_noise / c.noise if c.noise else 0.0,
              probe.tensor.precision, probe.bits_used,
              arithmetic.MAX_BITS - result.precisions[node.name], tuple(map(float, noise)), probe.mean_share,
              float(ranges.min(initial=1.0)), max(spare, 0), tuple(probe.consumers),
              tuple((tuple(p.consumers), p.tensor.precision, p.comparison.snr_db) for p in ordered[1:]), (), c.low, c.high,
              tuple(row.tolist() for row in c.histograms))
    return dataclasses.replace(row, advice=_advice(row))


def _before(node, by_input):
    """Relative noise of the best input, as the node takes it."""
    taken = [by_input[node, i] for i in range(len(node.inputs)) if (node, i) in by_input]
    return min((probe.comparison.relative_noise for probe in taken), default=0.0)


def _effect(node, probe, probes, by_input, quantizer, result):
    """What the noise of one way to take a node adds to that of the outputs, as far as it is the node's and not a layer's, which
    rounds what it takes and its weights. It is no more than the results of those who take it still have."""
    c = probe.comparison
    if c.relative_noise == math.inf:
        return math.inf
    takers = [user for user in probes if user.name in probe.consumers]
    if node in quantizer.noise or (probe.tensor is not result.tensors[node.name] and any(is_layer(u) for u in takers)):
        step = 0.0  # a layer's own; and outliers that it clips mostly end where what follows is flat
    else:
        step = float(np.mean(np.square(1 / np.asarray(probe.tensor.scale))) / 12)
    if step == 0 and c.saturated <= RARE:
        return 0.0
    inherited = min((_clipped(by_input[node, i]) for i in range(len(node.inputs)) if (node, i) in by_input), default=0.0)
    fresh = max(1 - inherited / _clipped(probe), 0.0) if _clipped(probe) else 0.0
    added = fresh * _clipped(probe) + (step * c.count / c.signal if c.signal else 0.0)
    if OUTPUT in probe.consumers or not takers:
        return added
    return max(_remaining(user, probe, fresh, step, added, probes, quantizer) for user in takers)


def _clipped(probe):
    """Power of the error in values beyond the integers, over that of the signal."""
    return probe.comparison.clip_noise / probe.comparison.signal if probe.comparison.signal else 0.0


def _remaining(user, probe, fresh, step, added, probes, quantizer):
    """What is left in the outputs of the relative noise `added` to something that `user` takes by clipping, of which the share
    `fresh` happens here, and by rounding, of variance `step`: by the sensitivity of a layer where it is known, else what its own
    result has of it, at most."""
    known = quantizer.sensitivity(user) if is_layer(user) else None
    if known is not None and probe.count:
        return float(((fresh * probe.clipped / probe.count + step) * known.input).sum())
    return min(added, min((p.comparison.relative_noise for p in probes[user]), default=math.inf))


def _advice(row):
    """What to try for one node, the likeliest first; nothing where it is clean."""
    if row.snr_db >= CLEAN:
        return ()
    layer = row.op in OPERATORS and OPERATORS[row.op].is_layer
    return tuple(_of_range(row) + (_of_layer(row) if layer else _of_rounding(row)) + _of_channels(row))


def _of_range(row):
    """Where the range of the integers does not suit the values."""
    said = []
    if row.clip_noise >= CLIPPING:
        remedy = f"more calibration batches, or set_threshold({row.name!r}, {row.max_value:.4g})" \
            if row.threshold < row.max_value else "Clip_inputs = False or Equalize = False keep them (set_techniques)"
        said.append(f"{row.saturated:.2%} of the values lie beyond the integers and make {row.clip_noise:.0%} of the error: "
                    f"{remedy}")
    elif row.max_value > 0 and row.threshold > LOOSE * row.max_value:
        said.append(f"the threshold {row.threshold:.4g} is far above the largest value seen, {row.max_value:.4g}: "
                    f"set_threshold({row.name!r}, {row.max_value:.4g}), or Calibrate_method = percentile or mse")
    if row.op == "input":
        said.append(f"more bits for the input than {row.precision}: Input_precision, set_input_prec")
    if OUTPUT in row.consumers and row.precision <= 8:
        said.append(f"more bits for the output than {row.precision}: Output_precision, set_output_prec")
    return said


def _of_layer(row):
    """Where a layer loses by what it rounds."""
    of_input, of_weight = row.rounding or (0.0, 0.0)
    said = []
    if row.spare_bits and of_input >= of_weight / 2:
        said.append(f"its input is rounded: {8 + row.spare_bits} bits fit, set_operand_prec({row.name!r}, {8 + row.spare_bits}) "
                    "(Operand_precision), or a larger Two_part_budget")
    if of_weight >= of_input / 2:
        said.append("its weights are rounded: Rounding = adaptive (set_techniques), chosen before calibration")
    if row.mean_share >= BIASED:
        said.append(f"mean errors of channels make {row.mean_share:.0%} of the error: Bias_correction = empirical "
                    "(set_techniques), chosen before calibration")
    return said


def _of_rounding(row):
    """Where something else than a layer adds noise."""
    if row.op == "input" or row.clip_noise >= CLIPPING or (OUTPUT in row.consumers and row.precision <= 8):
        return []
    if row.precision > ROUNDED:
        return ["it removes or cancels part of its inputs' signal, and their noise stays: look at the nodes before it"]
    return [f"rounding to {row.precision} bits; Calibrate_method = mse or percentile may give a finer step, "
            f"set_restore({row.name!r}) shows what it costs in the end"]


def _of_channels(row):
    """Where ranges of channels differ by more than scales of their own make up for."""
    if row.smallest >= MIN_SHARE:
        return []
    return [f"the range of one of its channels is 1/{1 / row.smallest:.0f} of the largest, and counts as 1/{1 / MIN_SHARE:.0f}: "
            "train or rescale it towards the others, or take it in more bits (Operand_precision)"]


class Report:
    """`rows`: a Row per node in topological order; `worst`: the same, what hurts most first."""

    def __init__(self, rows, batches, samples, title="network", notes=()):
        self.rows, self.batches, self.samples, self.title, self.notes = rows, batches, samples, title, tuple(notes)
        self.worst = sorted(rows, key=lambda row: (row.gain is None and not row.has_wrong_range, *_by_effect(row)))

    def outputs(self):
        """The rows of the network's outputs."""
        return [row for row in self.rows if OUTPUT in row.consumers or any(OUTPUT in c for c, _, _ in row.others)]

    def table(self, top=20):
        """Text for a terminal: a line per node for the `top` worst, and what to try for the first of them."""
        rows = self.worst[:top]
        width = min(max([len(row.name) for row in rows] + [4]), 44)
        lines = [f"{'node':<{width}} {'operator':<15} {'SNR dB':>7} {'drop':>6} {'gain %':>6} {'effect %':>8} {'cosine':>8} "
                 f"{'max err':>9} {'max |x|':>9} {'sat. %':>7} {'bits':>6} {'margin':>6}"]
        for row in rows:
            name = row.name if len(row.name) <= width else "..." + row.name[3 - width:]
            lines.append(f"{name:<{width}} {row.op[:15]:<15} {_db(row.snr_db):>7} {_db(row.drop_db):>6} "
                         f"{_percent(row.gain):>6} {100 * row.effect:8.3f} {row.cosine:8.5f} "
                         f"{row.max_error:9.4g} {row.max_value:9.4g} "
                         f"{100 * row.saturated:7.3f} {f'{row.bits_used}/{row.precision}':>6} {row.margin_bits:6d}")
        if len(rows) < len(self.rows):
            lines.append(f"({len(self.rows) - len(rows)} more nodes; --top, --json or --html shows them)")
        lines.append("")
        for row in self.culprits():
            lines.append(f"{row.name} ({row.op}): {'; '.join(row.advice)}")
        if not self.culprits() and any(row.snr_db < CLEAN for row in self.outputs()):
            measured = ", ".join(f"{row.name} {_percent(row.gain)} %" for row in self.worst[:3] if row.gain is not None)
            lines.append(f"no node stands out, their errors add up: of the outputs' noise make {measured or 'all a little'}; "
                         "a larger Two_part_budget, or Rounding = adaptive, takes from all of them")
        for row in self.outputs():
            lines.append(f"output {row.name}: SNR {_db(row.snr_db)} dB on {self.samples} samples")
        return "\n".join(lines)

    def culprits(self, count=3):
        """The few nodes worth looking at."""
        return [row for row in self.worst[:count] if row.effect > 0 and row.advice]

    def plain(self):
        """All of it for JSON."""
        return {"title": self.title, "batches": self.batches, "samples": self.samples, "notes": list(self.notes),
                "worst": [row.name for row in self.worst], "nodes": [row.plain() for row in self.rows]}

    def save_json(self, path):
        atomic_write(path, json.dumps(self.plain(), indent=1, allow_nan=False) + "\n")

    def save_html(self, path):
        atomic_write(path, self.html())

    def html(self):
        """One page that needs no other file."""
        culprits = "".join(f"<li><a href='#n{row.place}'>{_text(row.name)}</a> ({_text(row.op)}, {_db(row.snr_db)} dB): "
                           f"{_text('; '.join(row.advice))}</li>" for row in self.culprits(5))
        outputs = ", ".join(f"{_text(row.name)} {_db(row.snr_db)} dB" for row in self.outputs())
        head = "".join(f"<th title='{_text(what)}'>{name}</th>" for name, what in _COLUMNS)
        marked = {row.place for row in self.culprits(ADVISED)}
        return (f"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'/><title>{_text(self.title)}: float and integer"
                f"</title><meta name='viewport' content='width=device-width'/><style>{_STYLE}</style></head>\n<body>"
                f"<h1>{_text(self.title)}: float and integer</h1>\n<p>{self.samples} samples in {self.batches} batches, "
                f"{len(self.rows)} nodes. SNR of the outputs: {outputs}.</p>\n"
                + "".join(f"<p>{_text(note)}</p>\n" for note in self.notes)
                + f"<h2>What hurts most</h2>\n<ol>{culprits or '<li>nothing: the integers are exact</li>'}</ol>\n"
                "<h2>SNR along the network</h2>\n"
                "<p>In dB, from the input to the output; the tallest bars are the cleanest tensors. "
                f"The nodes named above stand out.</p>\n{self._depth_chart()}\n<h2>All nodes, what hurts most first</h2>\n"
                "<p>Pictures: how often each value occurs, on a logarithmic scale: <span class='key float'>filled, float</span>, "
                "<span class='key int'>line, integers as their consumers take them</span>.</p>\n"
                f"<table><thead><tr>{head}</tr></thead><tbody>\n"
                + "".join(_html_row(row, row.place in marked) for row in self.worst) + "</tbody></table>\n"
                "</body></html>\n")

    def _depth_chart(self):
        finite = [row.snr_db for row in self.rows if math.isfinite(row.snr_db)]
        top = max(10.0 * math.ceil(max(finite, default=10) / 10), 10.0)
        step, height, marked = max(3.0, min(24.0, 1000 / len(self.rows))), 200, {row.place for row in self.culprits(5)}
        width = 40 + step * len(self.rows)
        lines, bars = [], []
        for level in range(0, int(top) + 1, 10 if top <= 80 else 20):
            y = 10 + height * (1 - level / top)
            lines.append(f"<line class='grid' stroke='#d5dae0' x1='36' x2='{width:.0f}' y1='{y:.1f}' y2='{y:.1f}'/>"
                         f"<text x='30' y='{y + 4:.1f}' text-anchor='end'>{level}</text>")
        for row in self.rows:
            tall = height * min(max(row.snr_db, 0.0), top) / top
            kind, colour = ("bad", "#cf4a12") if row.place in marked else ("bar", "#5b8fca")
            bars.append(f"<a href='#n{row.place}'><rect class='{kind}' fill='{colour}' "
                        f"x='{40 + step * row.place:.1f}' y='{10 + height - tall:.1f}' width='{step * 0.8:.1f}' "
                        f"height='{max(tall, 1):.1f}'><title>{_text(row.name)} ({_text(row.op)}): {_db(row.snr_db)} dB</title>"
                        "</rect></a>")
        return (f"<div class='wide'><svg width='{width:.0f}' height='{height + 20}' role='img' aria-label='SNR in dB by depth'>"
                f"{''.join(lines)}{''.join(bars)}</svg></div>")


def _html_row(row, advised):
    bits = f"{row.bits_used} of {row.precision}"
    others = "".join(f"<br/>{_text(', '.join(c))}: {p} bits, {_db(s)} dB" for c, p, s in row.others)
    taken = ", ".join(name for name in row.consumers if name)
    cells = [_db(row.snr_db), _db(row.drop_db), _percent(row.gain), f"{row.effect:.4%}", f"{row.added_noise:.4%}",
             f"{row.cosine:.6f}", f"{row.max_error:.4g}", f"{row.max_value:.4g}",
             f"{row.threshold:.4g}", f"{row.saturated:.3%}", bits, f"{row.margin_bits}"]
    return (f"<tr id='n{row.place}'><td class='name'><b>{_text(row.name)}</b><br/>{_text(row.op)} {_text(row.shape)}"
            f"<br/><small>taken by {_text(taken or 'nobody')}{others}</small>"
            + "".join(f"<br/><em>{_text(said)}</em>" for said in row.advice[:1] if advised)
            + f"</td><td>{_picture(row)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")


def _picture(row):
    """Both histograms of a node."""
    width, height = 160, 48
    tall = np.log1p(np.array(row.histograms, np.float64))
    y = height - height * tall / max(tall.max(), 1)
    x = np.linspace(0, width, BINS + 1)

    def outline(values):
        return " ".join(f"L{x[i]:.0f} {v:.1f} {x[i + 1]:.0f} {v:.1f}" for i, v in enumerate(values))

    return (f"<svg width='{width}' height='{height + 14}' role='img' aria-label='histogram'>"
            f"<path class='float' fill='#a9c7ea' d='M0 {height} {outline(y[0])} L{width} {height} Z'/>"
            f"<path class='int' fill='none' stroke='#b3470f' d='M0 {height} {outline(y[1])}'/>"
            f"<text x='0' y='{height + 12}'>{row.low:.3g}</text>"
            f"<text x='{width}' y='{height + 12}' text-anchor='end'>{row.high:.3g}</text></svg>")


def _db(value):
    return f"{value:.1f}" if math.isfinite(value) else "exact" if value > 0 else "none"


def _percent(gain):
    return "" if gain is None else f"{100 * gain:.1f}"


def _text(value):
    return html.escape(str(value), quote=True)


_COLUMNS = (
    ("node", "name, operator, shape of one sample, and who takes its integers"),
    ("values", "histograms of the float values and of the integers"),
    ("SNR dB", "10 log10(sum of squares of the float values / sum of squares of the error)"),
    ("drop dB", "SNR of the best input, as the node takes it, less the node's own"),
    ("gain %", "share of the outputs' noise that goes when the node is computed in floating point, where it was measured"),
    ("effect", "what it adds to the noise of the outputs, as a share of their power"),
    ("added noise", "noise the node adds, as a share of its signal's power"),
    ("cosine", "of the angle between float and integer values"),
    ("max error", "largest difference"), ("max |x|", "largest float value"), ("threshold", "bound found by calibration or set"),
    ("saturated", "share of the values beyond the range of the integers"),
    ("bits", "that the largest integer needs, of those it has"), ("margin", "32 less the bits proven to hold the node's result"))

# Colours stand in the pictures as well, for readers of HTML that do not apply these rules to them.
_STYLE = """
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --soft: #66707a; --line: #d5dae0; --float: #a9c7ea; --int: #b3470f;
 --bar: #5b8fca; --bad: #cf4a12; }
@media (prefers-color-scheme: dark) { :root { --bg: #15181c; --fg: #e6e9ec; --soft: #98a2ad; --line: #363d45; --float: #2f5480;
 --int: #ff9a5c; --bar: #5b8fca; --bad: #ff7d3c; } }
body { background: var(--bg); color: var(--fg); font: 14px/1.45 system-ui, sans-serif; margin: 1.5em; }
a { color: inherit; } .wide { overflow-x: auto; } em { color: var(--bad); font-style: normal; } small { color: var(--soft); }
table { border-collapse: collapse; } th { position: sticky; top: 0; background: var(--bg); white-space: nowrap; cursor: help; }
td, th { border-bottom: 1px solid var(--line); padding: 4px 8px; text-align: right; vertical-align: top;
 font-variant-numeric: tabular-nums; } td { white-space: nowrap; }
td.name { text-align: left; max-width: 30em; overflow-wrap: anywhere; white-space: normal; } th:first-child { text-align: left; }
svg text { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--line); } path.float { fill: var(--float); }
path.int { fill: none; stroke: var(--int); } .bar { fill: var(--bar); } .bad { fill: var(--bad); }
.key.float { background: var(--float); padding: 0 4px; } .key.int { border-bottom: 2px solid var(--int); }
"""


# ---- the command -----------------------------------------------------------------------------------------------------

def _without_dumps(settings):
    """The same settings with nothing kept and nothing compiled, and a start that still has the float network."""
    parts = {name.lower(): dataclasses.replace(settings.section(name), dump=False) for name in config.STAGES[1:]}
    default = settings.default
    if default.start in ("QUANTIZATION", "MERGE_MODEL"):
        kept = config.checkpoint_files(settings.kept_prefix, "CALIBRATION", bool(settings.split_model.keys))
        start = "CALIBRATION" if all(map(os.path.isfile, kept)) else "DEFAULT"
        default = dataclasses.replace(default, start=start)
    return dataclasses.replace(settings, default=default, compilation=None, **parts)


def inspect_configuration(settings, batches):
    """Run the stages up to calibration and inspect on `batches` batches of the evaluation data, of the calibration's where
    there is no section [EVALUATION]."""
    wanted, settings = settings, _without_dumps(settings)
    run = stages.Run(settings)
    run.load_calibrated()
    section = "EVALUATION" if settings.evaluation else "CALIBRATION"
    size = min(settings.section(section).batch, settings.calibration.batch)
    notes = []
    if wanted.default.start != settings.default.start:
        notes.append(f"Start = {wanted.default.start} has no float network; started from {settings.default.start}")
    if section == "CALIBRATION":
        notes.append("there is no section [EVALUATION]: these are the samples of calibration, which never saturate")
    dataset = run.open_data(section, size)
    if stages.batch_axis(settings.default.input_shape):
        raise MRTError(f"{settings.where('DEFAULT', 'Input_shape')}: inspection needs the batch on the first axis")
    following = dataset.iter_func()

    def some():
        for _ in range(batches):
            try:
                yield following()[0]
            except StopIteration:
                return

    with Progress("inspect", stages.sample_count(dataset, batches, size), "samples") as progress:
        report = inspect(run.mrt, some(), progress.update)
    report.title, report.notes = settings.default.model_name, tuple(notes)
    return report


def _check_files(options, settings):
    """Whether the files can be written in which the report is wanted, before it is made."""
    problems = [f"--{word}: {problem}" for word, path in (("json", options.json), ("html", options.html))
                for problem in [path and config.unwritable(path, settings)] if problem]
    if options.json and options.html and os.path.realpath(options.json) == os.path.realpath(options.html):
        problems.append("--html: the same file as --json; name another")
    if problems:
        raise config.ConfigError(problems)


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {value}, expected at least 1")
    return value


@guarded
def main(argv=None, prog="mrt inspect"):
    """Run the command line; returns the exit status: 0 done, 1 an error, 2 wrong usage, 130 interrupted."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", help="the .ini file that main2 takes")
    parser.add_argument("--batches", type=_positive, default=4, help="batches to compare (4)")
    parser.add_argument("--top", type=_positive, default=20, help="nodes to print (20)")
    parser.add_argument("--json", metavar="FILE", help="write every figure")
    parser.add_argument("--html", metavar="FILE", help="write a page with pictures")
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:
        return stop.code

    def action(settings):
        _check_files(options, settings)
        report = inspect_configuration(settings, options.batches)
        for note in report.notes:
            print(f"notice: {note}", file=sys.stderr)
        print(report.table(options.top))
        for path, save in ((options.json, report.save_json), (options.html, report.save_html)):
            if path:
                save(path)
                print(f"written: {path}")

    return run_configured(options.configuration, action)
