"""Accuracy of the float model, the simulated integer model and the compiled model, on the same samples, bit for bit."""
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mrt import sim_quant_helper as sim
from mrt.errors import MRTError
from mrt.mxnet_bridge import mx
from mrt.utils import multi_validate

__all__ = ["Column", "Compiled", "Evaluation"]

# The reference kernels are plain loops, and few samples show whether a fast kernel differs: unless more are asked for, as many
# as fit into this share of the time, from 1 to so many.
FORMAL_SHARE, FORMAL_SAMPLES = 0.1, 100


class Column:
    """One of the compared models: its metric, and the seconds it has computed."""

    def __init__(self, title, dataset):
        self.title, self._dataset, self._metrics = title, dataset, dataset.metrics()
        self.text, self.samples, self.seconds = "", 0, 0.0

    def add(self, outputs, label):
        """Count one batch: outputs, a list of arrays in real units; label as the data set gives it."""
        arrays = [mx.nd.array(output, dtype=output.dtype) for output in outputs]
        self.samples += len(outputs[0])
        self.text = self._dataset.validate(self._metrics, arrays[0] if len(arrays) == 1 else arrays, label)
        return self.text

    def figures(self):
        """Metric name -> percent, where the data set's metrics are `mrt.metrics.TopK`; else empty."""
        metrics = self._metrics if isinstance(self._metrics, (list, tuple)) else []
        return {m.name: m.percent for m in metrics if hasattr(m, "percent") and m.total}


class Executor:
    """Runs a gluon block on batches of one size along `axis`, spread over one or several contexts."""

    def __init__(self, block, contexts, axis, batch):
        self._block, self._contexts, self._axis, self._batch = block, contexts, axis, batch

    def __call__(self, data):
        """data: NDArray of at most `batch` samples; returns numpy arrays, samples along axis 0."""
        count = data.shape[self._axis]
        parts = mx.gluon.utils.split_data(_padded(data, self._axis, self._batch), len(self._contexts), self._axis)
        results = [self._block(part.as_in_context(ctx)) for part, ctx in zip(parts, self._contexts)]
        results = [r if isinstance(r, (list, tuple)) else [r] for r in results]
        return [np.concatenate([r.asnumpy() for r in output])[:count] for output in zip(*results)]


def _padded(data, axis, batch):
    """`data` filled up with zeros to `batch` samples; a compiled or reduced graph has one batch size."""
    missing = batch - data.shape[axis]
    if not missing:
        return data
    shape = tuple(missing if i == axis else n for i, n in enumerate(data.shape))
    return mx.nd.concat(data, mx.nd.zeros(shape, dtype=data.dtype), dim=axis)


class Compiled:
    """The compiled files in the runtime, fed with as many samples at a time as they were compiled for.

    `workers` runs go on at the same time, which gains more than several threads in each: the batches are small.
    """

    def __init__(self, model, axis, workers=1):
        self.model, self._axis, self._batch, self._workers = model, axis, model.input_shape[axis], workers

    @property
    def at_once(self):
        """Samples that are computed at the same time."""
        return self._batch * self._workers

    def __call__(self, codes):
        """codes: integer numpy array of any number of samples; returns int32 arrays, samples along axis 0."""
        count, batch = codes.shape[self._axis], self._batch
        filled = np.pad(codes, [(0, -count % batch if i == self._axis else 0) for i in range(codes.ndim)])
        parts = np.split(filled, range(batch, filled.shape[self._axis], batch), self._axis)
        with ThreadPoolExecutor(self._workers) as pool:
            runs = list(pool.map(self.model.run, parts))
        return [np.concatenate(output)[:count] for output in zip(*runs)]


class Evaluation:
    """Feeds batches to all models and compares them.

    float_model, integer_model: functions NDArray -> list of arrays (`Executor`). runtime, formal: `Compiled` or None.
    oscales: scale of each output (real value = integer / scale). formal_samples: how many samples the reference kernels compute,
    the first ones; None: what time allows, the first ones of each batch.
    """

    def __init__(self, dataset, axis, float_model, integer_model, inputs_ext, oscales, runtime=None, formal=None,
                 formal_samples=None):
        self._float_model, self._integer_model = float_model, integer_model
        self._runtime, self._formal, self._axis = runtime, formal, axis
        self._inputs_ext, self._oscales, self._dataset = inputs_ext, oscales, dataset
        self.float = Column("float", dataset)
        self.integer = Column("integer, simulated", dataset)
        self.runtime = Column("integer, runtime", dataset) if runtime else None
        self.formal = Column("integer, formal", dataset) if formal else None
        self._formal_samples, self._longest_round = formal_samples, 0.0
        self.agreeing, self.comparable = 0, True
        self.different, self.formal_different = 0, 0

    @property
    def columns(self):
        return [c for c in (self.float, self.integer, self.runtime, self.formal) if c]

    @property
    def samples(self):
        return self.float.samples

    def run(self, iterations, batch, progress):
        """Evaluate at most `iterations` batches, calling `progress` with the number of samples of each that is done.

        Raises MRTError when the data set gives no batch.
        """
        following, told = self._dataset.iter_func(), 0

        def counted():
            nonlocal told
            progress(self.samples - told)
            told = self.samples
            return following()

        others = [self.quantize, self.compiled] if self._runtime else [self.quantize]
        multi_validate(self.evalfunc, counted, *others, iter_num=iterations, batch_size=batch,
                       logger=logging.getLogger("mrt.validate"))
        if not self.samples:
            raise MRTError(f"data set {self._dataset.name!r} gives no batch of {batch} samples; choose a smaller Batch")

    def seconds_left(self, total):
        """How long the rest will take if `total` samples are evaluated, the share of the reference kernels included; None before
        the first batch tells."""
        others = [column for column in self.columns if column is not self.formal]
        if not all(column.samples for column in others):
            return None
        left = sum(column.seconds / column.samples * (total - column.samples) for column in others)
        if self.formal and self.formal.samples:
            wanted = min(total, FORMAL_SAMPLES if self._formal_samples is None else self._formal_samples)
            formal = self.formal.seconds / self.formal.samples * max(wanted - self.formal.samples, 0)
            spent = sum(column.seconds for column in others)
            budget = (spent + left) * FORMAL_SHARE / (1 - FORMAL_SHARE) - self.formal.seconds
            left += formal if self._formal_samples is not None else min(formal, max(budget, 0))
        return left

    def evalfunc(self, data, label):
        """The float model on one batch."""
        outputs = self._timed(self.float, self._float_model, data)
        self._float_top1 = _top1(outputs)
        return self.float.add(outputs, label)

    def quantize(self, data, label):
        """The simulated integer model on the same batch."""
        self._codes = sim.load_real_data(data, "data", self._inputs_ext)
        self._integers = self._timed(self.integer, self._integer_model, self._codes)
        outputs = self._real(self._integers)
        top1 = _top1(outputs)
        if top1 is None or self._float_top1 is None:
            self.comparable = False
        else:
            self.agreeing += int((top1 == self._float_top1).sum())
        return self.integer.add(outputs, label)

    def compiled(self, data, label):
        """The compiled model on the same integers, compared with the simulation and with the reference kernels."""
        codes = self._codes.asnumpy().astype(np.int32)
        found = self._timed(self.runtime, self._runtime, codes)
        self.different += _different(found, self._integers)
        if self._formal:
            self._compare_with_formal(codes, found, label)
        return self.runtime.add(self._real(found), label)

    def _compare_with_formal(self, codes, found, label):
        """The reference kernels on the first samples of a batch, round by round, each one at most as large as the cores take."""
        start, end = 0, codes.shape[self._axis]
        while start < end:
            stop = min(start + self._next_round(), end)
            if stop == start:
                break
            before = self.formal.seconds
            formal = self._timed(self.formal, self._formal, np.take(codes, range(start, stop), self._axis))
            self._longest_round = max(self._longest_round, self.formal.seconds - before)
            self.formal_different += _different(formal, [output[start:stop] for output in found])
            self.formal.add(self._real(formal), label[start:stop])
            start = stop

    def _next_round(self):
        """Number of samples that the reference kernels are to compute next."""
        done, at_once = self.formal.samples, self._formal.at_once
        if self._formal_samples is not None:
            return min(self._formal_samples - done, at_once)
        if not done:
            return 1  # which tells how long it takes
        others = sum(column.seconds for column in self.columns if column is not self.formal)
        left = others * FORMAL_SHARE / (1 - FORMAL_SHARE) - self.formal.seconds
        return min(FORMAL_SAMPLES - done, at_once) if left >= self._longest_round else 0

    def _real(self, integers):
        return [output.astype(np.float64) / _along_channels(scale, output.ndim)
                for output, scale in zip(integers, self._oscales)]

    @staticmethod
    def _timed(column, function, data):
        start = time.perf_counter()
        outputs = function(data)
        column.seconds += time.perf_counter() - start
        return outputs


def _along_channels(scale, ndim):
    """A scale per channel shaped so that it divides along axis 1; a single one as it is."""
    scale = np.asarray(scale, np.float64)
    return scale.reshape((1, -1) + (1,) * (ndim - 2)) if scale.ndim else scale


def _top1(outputs):
    """Class with the highest score of each sample, None for outputs that are not scores (N, classes)."""
    return outputs[0].argmax(axis=1) if len(outputs) == 1 and outputs[0].ndim == 2 else None


def _different(found, expected):
    """Number of samples with any differing integer."""
    samples = [(a != b).reshape(len(a), -1).any(axis=1) for a, b in zip(found, expected)]
    return int(np.any(samples, axis=0).sum())
