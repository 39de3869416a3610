"""Empirical bias correction: the mean of every output channel of every layer of the integer network becomes that of the float
network (Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, section 4.2, with
calibration data).

What the bias is corrected by in `mrt.ops.layer_weights` is what rounded weights do to the mean of the outputs, for the
inputs of the float network. Here the integer network runs on samples, and what is left is measured, with all that rounded and
clipped inputs do.
"""
import numpy as np

from mrt import sim_quant_helper as sim
from mrt.arithmetic import code_range
from mrt.errors import MRTError
from mrt.execute import run_in_step
from mrt.mxnet_bridge import mx
from mrt.ops import is_layer
from mrt.simulate import lower

__all__ = ["MAX_SAMPLES", "correct_means"]

MAX_SAMPLES = 64


def correct_means(graph, result, batches):
    """Change, in place, the biases in `result`, the Quantized of the float `graph`, layer by layer from input to output.

    `batches`: list of float arrays of the network's input shape. Memory holds the tensors of the integer network that are live,
    for all batches together.
    """
    if not batches:
        raise MRTError("empirical bias correction needs samples, and none were kept; choose it (set_techniques, [QUANTIZATION] "
                       "Bias_correction) before calibrate, and calibrate again")
    layers = {node: result.tensors[node.name] for node in graph.topological() if is_layer(node)}
    means = _float_means(graph, layers, batches)
    data, integers = result.tensors["data"], lower(result.graph)
    ext = {"data": {"scale": data.scale, "target_bit": data.precision}}
    batches = [sim.load_real_data(mx.nd.array(batch, dtype="float64"), "data", ext) for batch in batches]
    computed = {tensor.entry.node.name: (node, tensor) for node, tensor in layers.items()}
    for node, _, results in run_in_step(integers, batches, "float64"):
        if node.name in computed:
            layer, tensor = computed[node.name]
            bias = _bias(tensor.entry.node, result.graph)
            if bias is not None:
                error = means[layer] - _mean(results) / tensor.scale
                change = _changed(bias, np.rint(error * tensor.scale))
                shape = (1, -1) + (1,) * (results[0][0].ndim - 2)
                for values in results:
                    values[0] = values[0] + mx.nd.array(change.reshape(shape), dtype="float64")


def _bias(node, graph):
    """(values, precision) of the bias of a layer, in two parts or not; None for a layer that is computed otherwise."""
    layer = node.inputs[1].node if node.op == "broadcast_add" else node
    layer = layer.inputs[0].node if layer.kind == "cvm_clip" else layer
    if not is_layer(layer) or len(layer.inputs) < 3:
        return None
    bias = layer.inputs[2].node
    return graph.params[bias.name], bias.int("precision")


def _changed(bias, change):
    """Add `change` to the values of a bias as far as its precision goes; returns what was added."""
    values, precision = bias
    before, limit = values.astype(np.int64), code_range(precision)
    values[...] = np.clip(before + change, -limit, limit)
    return values - before


def _float_means(graph, layers, batches):
    sums = dict.fromkeys(layers, 0.0)
    for batch in batches:
        for node, _, results in run_in_step(graph, [batch]):
            if node in layers:
                sums[node] = sums[node] + _mean(results) * len(batch)
    return {node: total / sum(map(len, batches)) for node, total in sums.items()}


def _mean(results):
    """Of every channel of the first output, over all batches."""
    firsts = [values[0] for values in results]
    sums = sum(values.asnumpy().astype(np.float64).sum(axis=(0,) + tuple(range(2, values.ndim))) for values in firsts)
    return sums / sum(values.size // values.shape[1] for values in firsts)
