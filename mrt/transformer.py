"""The public classes: a float `Model` is prepared, calibrated and quantized through `MRT`, and compiled for the CVM runtime.

    model = Model.load("net.json", "net.params")
    model.prepare((1, 1, 28, 28))
    mrt = model.get_mrt()
    for batch in batches:
        mrt.set_data(batch)
        mrt.calibrate()
    mrt.set_output_prec(8)
    integers = mrt.quantize()
    integers.to_cvm("net_cvm", "out", input_shape=(1, 1, 28, 28))
"""
import collections.abc
import os
import warnings

import numpy as np

from mrt import arguments, compiler, simulate
from mrt.arithmetic import bits
from mrt.errors import ModelError, MRTError, MRTWarning, StateError
from mrt.execute import infer_shapes, to_block
from mrt.files import atomic_folder, atomic_write, extend_fname, sha256
from mrt.frontend import mxnet
from mrt.graph import Entry, Graph, Node
from mrt.mxnet_bridge import first_line, mx
from mrt.ops import is_layer
from mrt.passes.fold_constants import fold_constants
from mrt.passes.heads import without_losses
from mrt.passes.inputs import name_input
from mrt.passes.prepare import prepare
from mrt.quantization import calibrate, saved
from mrt.quantization.bias import MAX_SAMPLES, correct_means
from mrt.quantization.input_precisions import InputPrecisions
from mrt.quantization.original import Original
from mrt.quantization.quantize import Options, Quantizer, quantize_graph
from mrt.quantization.techniques import SETTINGS, checked_techniques

__all__ = ["MRT", "Model", "ModelMerger", "ModelSpliter", "reduce_graph"]

OUT_KEY = "out_key"
FLOATS = ("float32", "float64", "float16")
SENSITIVITY_BATCHES = 2  # a sample of each of the first batches tells how errors spread
PRESETS = {"default": Quantizer, "original": Original}


class Model:
    """A network: an MXNet symbol and its parameters (`graph` holds both; `symbol` and `params` are views of it). Training heads,
    which wait for labels, become what they predict."""

    def __init__(self, symbol, params, dtype="float32"):
        """`params`: name -> NDArray or numpy array; float ones are kept in `dtype`."""
        arguments.instance("the symbol", symbol, mx.sym.Symbol, "an mxnet Symbol; Model.load reads files")
        arguments.mapping("the params", params, "a map of names to arrays")
        for name, value in params.items():
            arguments.instance(f"the parameter {name}", value, (np.ndarray, mx.nd.NDArray), "an NDArray or a numpy array")
        dtype = _float_type(dtype)
        self.graph = without_losses(mxnet.from_symbol(symbol, params))
        self.graph.params = {n: v.astype(dtype) if v.dtype.kind == "f" else v for n, v in self.graph.params.items()}

    @staticmethod
    def of(graph):
        """A Model around an `mrt.graph.Graph`."""
        model = Model.__new__(Model)
        model.graph = graph
        return model

    @property
    def symbol(self):
        return mxnet.to_symbol(self.graph)

    @property
    def params(self):
        return {name: mx.nd.array(value, dtype=value.dtype) for name, value in self.graph.params.items()}

    def __iter__(self):
        return iter(self.symbol)

    def input_names(self):
        """Names of the variables that are not parameters, in topological order."""
        return [node.name for node in self.graph.inputs()]

    def output_names(self):
        """Name of the node behind each output, in output order."""
        return [entry.node.name for entry in self.graph.outputs]

    names = output_names

    def is_quantized(self):
        return simulate.is_integer(self.graph)

    def to_graph(self, dtype=None, ctx=None):
        """An executable gluon SymbolBlock with the parameters loaded; `ctx` is one context or a list.

        A quantized model always computes in float64, which is exact for its 32-bit integers (float32 would not be), and
        takes input of any type; asking for another `dtype` is an error. A float model computes in `dtype`, float32 by default.
        """
        if not self.is_quantized():
            return to_block(self.graph, _float_type(dtype or "float32"), ctx)
        if dtype not in (None, "float64", np.float64):
            raise MRTError(f"a quantized model cannot be simulated in {dtype}: its integers have up to 32 bits; leave dtype out")
        return to_block(simulate.lower(self.graph), "float64", ctx)

    def save(self, symbol_file, params_file):
        """Write MXNet symbol JSON and an MXNet NDArray dictionary."""
        mxnet.save(self.graph, arguments.path("symbol_file", symbol_file), arguments.path("params_file", params_file))

    @staticmethod
    def load(symbol_file, params_file):
        """Read a checkpoint written by `save`, `export`, `save_checkpoint` or gluon. ModelError says what is wrong with it."""
        files = arguments.path("symbol_file", symbol_file), arguments.path("params_file", params_file)
        return Model.of(without_losses(mxnet.load(*files)))

    def prepare(self, input_shape=None, keys=()):
        """Rewrite, in place, to the core operators that can be quantized. `input_shape`: the shape of the input with the batch
        filled in, {name: shape}, or None to take the shape the symbol declares. With the shapes of several inputs they become
        one flat input, all their elements in the order of `input_names()`. `keys`: names of the nodes where `split` will
        cut, if it will; above them, operators that are not supported stay as they are, and so do inputs whose shapes are not
        given.

        Errors: ModelError for names, inputs, shapes; UnsupportedError (a NotImplementedError) that lists every operator MRT
        cannot quantize.
        """
        if self.is_quantized():
            raise StateError("the model is quantized already; prepare takes the float model")
        input_shape = arguments.shape("input_shape", input_shape)
        self.graph = prepare(self.graph, input_shape, arguments.names("keys", keys))

    def split(self, keys):
        """(base, top): base computes the nodes named in `keys` (of the prepared network), top the rest from them."""
        keys = arguments.names("keys", keys)
        twice = sorted({key for key in keys if keys.count(key) > 1})
        nodes = {node.name: node for node in self.graph.topological()}
        unknown = [key for key in keys if key not in nodes]
        if not keys or twice or unknown:
            raise MRTError("cannot split: " + (f"given twice: {', '.join(twice)}" if twice else
                                               f"no such node in the prepared network: {', '.join(unknown)}" if unknown else
                                               "no keys given"))
        chosen = [node for node in self.graph.topological() if node.name in set(keys)]
        base = Graph([Entry(node, 0) for node in chosen], self.graph.params)
        shapes = infer_shapes(base)
        top = self.graph.rewrite(lambda node, inputs: Node("null", node.name, attrs={"__shape__": shapes[node][0]})
                                 if node in chosen else node.with_inputs(inputs))
        return Model.of(base), Model.of(top)

    @staticmethod
    def merger(base, top, base_name_maps=None, base_name_map=None):
        """ModelMerger of a quantized base and its top; `base_name_maps` as from `MRT.get_maps()`."""
        return ModelMerger(base, top, base_name_maps or base_name_map)

    def get_mrt(self):
        """The quantizer of this prepared model."""
        return MRT(self)

    def to_cvm(self, model_name, datadir="./data", input_shape=None, target="cpu", device_ids=None):
        """Compile a quantized model for one fixed `input_shape` (batch included; default: the shape it was prepared with) and
        write `symbol` and `params` into the folder datadir/model_name, both at once. Returns (symbol text, params bytes).

        The runtime loads and verifies the pair before anything is written. `target` ("cpu", "gpu" or "formal"; empty: cpu) and
        `device_ids` are accepted for compatibility: the files are the same for every device.
        """
        arguments.choice("target", target or "cpu", ("cpu", "gpu", "formal"))
        path = os.path.join(arguments.path("datadir", datadir), arguments.path("model_name", model_name))
        symbol, params = self.compiled(input_shape)
        with atomic_folder(path, ("symbol", "params")) as folder:
            atomic_write(os.path.join(folder, "symbol"), symbol)
            atomic_write(os.path.join(folder, "params"), params)
        return symbol, params

    def compiled(self, input_shape=None):
        """(symbol text, params bytes) as `to_cvm` writes them; the runtime has loaded and verified the pair."""
        symbol, params = compiler.compile_graph(self.graph, arguments.shape("input_shape", input_shape))
        _verify(symbol, params)
        return symbol, params

    def fix_original_model(self, model_dir, model_name):
        """Give every node a name of its own and write model_dir/model_name.fixed.json and .params."""
        model_dir, model_name = arguments.path("model_dir", model_dir), arguments.path("model_name", model_name)
        self.graph = self.graph.with_unique_names()
        self.save(*extend_fname(os.path.join(model_dir, model_name + ".fixed")))


class MRT:
    """Calibrates and quantizes one prepared Model.

    `th_dict`: node name -> threshold. `precs`: node name -> {"out_key": bits of its output, consumer name: bits that consumer
    wants, own name: bits as a model output}. `scales`: node name -> scale (a list where channels have their own).
    """

    def __init__(self, model, input_prec=8):
        arguments.instance("the model", model, Model, "a prepared Model")
        if model.graph.find("data") is None:
            raise StateError("the model has no input called data: call Model.prepare first")
        others = [name for name in model.input_names() if name != "data"]
        if others:
            raise StateError(f"the model has other inputs than data: {', '.join(others)}; Model.split it at the keys it was "
                             "prepared with, and quantize the base")
        self.current_model = model
        self.old_names = model.output_names()
        self.th_dict, self.scales, self.restore_names, self.channels = {}, {}, set(), {}
        self.precs = {node.name: {} for node in model.graph.topological()}
        self.precs["data"][OUT_KEY] = SETTINGS["input_precision"].checked(input_prec)
        self.op_input_precs = {}
        self.softmax_lambd, self.shift_bits = SETTINGS["softmax_lambd"].default, SETTINGS["shift_bits"].default
        self.techniques, self.preset = {}, SETTINGS["preset"].default
        self._statistics, self._loaded_ths = {}, {}
        self.sensitivities, self.grams, self.samples = {}, {}, []
        self._data, self._observed, self._batches = None, False, 0

    @property
    def op_input_precs(self):
        """Operator -> bits it takes its inputs at (mrt.input_precisions); set an entry, or several by assigning a dictionary."""
        return self._op_input_precs

    @op_input_precs.setter
    def op_input_precs(self, values):
        self._op_input_precs = InputPrecisions(values)

    # --- calibration

    def set_data(self, data):
        """The next batch of `data` for `calibrate`: NDArray or numpy array of the shape the network was prepared for, with any
        number of samples. MRTError for other shapes."""
        self._not_quantized("set_data")
        self._data, self._observed = calibrate.checked(self.current_model.graph, data), False

    def calibrate(self, ctx=None, lambd=None, old_ths=None, method=None):
        """Thresholds from all batches seen so far; returns and stores name -> threshold. Neither the order of the samples nor
        how they come in batches makes a difference where the model was prepared for one sample. After an exception everything
        is as before the call. Warns (MRTWarning) of data that is zero throughout.

        method: one of mrt.calibrate.METHODS; by default `lambda` when `lambd` is given (a multiple of the standard deviation),
        else `absmax`. `old_ths`: thresholds to merge, the larger wins. `ctx`: the one context to compute on.
        """
        self._not_quantized("calibrate")
        if self._data is None:
            raise StateError("calibrate needs data: call set_data first")
        if isinstance(ctx, (list, tuple)):
            raise MRTError(f"calibration takes one context, found {len(ctx)}")
        arguments.instance("ctx", ctx or mx.cpu(), mx.Context, "an MXNet context, such as mx.cpu()")
        lambd = SETTINGS["lambda_"].checked(lambd)
        method = SETTINGS["calibrate_method"].checked(method) or ("absmax" if lambd is None else "lambda")
        old_ths = _checked_thresholds("old_ths", old_ths or {})
        graph = self.current_model.graph
        seen = {"_statistics": self._statistics} if self._observed else self._with_batch(ctx or mx.cpu())
        found = calibrate.thresholds(graph, seen["_statistics"], method, lambd)
        for old in (self._loaded_ths, old_ths):
            found.update({name: max(found[name], th) for name, th in old.items() if name in found})
        channels = calibrate.channels(graph, seen["_statistics"])
        vars(self).update(seen, th_dict=found, channels=channels, _observed=True)
        if found["data"] == 0:
            warnings.warn("the calibration data holds nothing but zeros, so the thresholds say nothing of other data; look for a "
                          "wrong preprocessing", MRTWarning, stacklevel=2)
        return found

    def _with_batch(self, ctx):
        """The attributes that change when the present batch is added to what was kept of those before."""
        graph, statistics = self.current_model.graph, {}
        grams = {} if self.techniques.get("rounding") == "adaptive" else None
        units = calibrate.units(graph, self._data)
        try:
            calibrate.observe(graph, units, statistics, ctx, grams)
        except mx.MXNetError as error:
            raise MRTError(f"MXNet cannot compute the network, prepared for {units[0].shape}, on calibration data of shape "
                           f"{self._data.shape}: {first_line(error)}") from error
        seen = {"_statistics": calibrate.merged(self._statistics, statistics), "_batches": self._batches + 1,
                "grams": calibrate.merged(self.grams, grams or {})}
        if self.techniques.get("bias_correction") == "empirical":
            left = MAX_SAMPLES - sum(map(len, self.samples))
            seen["samples"] = self.samples + ([self._data[:left]] if left > 0 else [])
        if seen["_batches"] <= SENSITIVITY_BATCHES:
            found = calibrate.sensitivities(graph, units[0], seen["_statistics"], seen["_batches"], ctx)
            seen["sensitivities"] = calibrate.merged(self.sensitivities, {name: [more] for name, more in found.items()})
        return seen

    def set_threshold(self, name, threshold):
        """Override one threshold, after `calibrate`: a bound >= 0 for the absolute value of the node's output."""
        self._not_quantized("set_threshold")
        if name not in self.th_dict:
            raise MRTError(f"no threshold for {name!r}: " + ("call calibrate first" if not self.th_dict else
                                                            "the prepared network has no such node"))
        self.th_dict[name] = SETTINGS["thresholds"].checked(threshold, name)

    def set_th_dict(self, th_dict):
        """Replace all thresholds (name -> bound)."""
        self._not_quantized("set_th_dict")
        checked = _checked_thresholds("th_dict", th_dict)
        unknown = sorted(set(checked) - {node.name for node in self.current_model.graph.topological()})
        if unknown:
            raise MRTError(f"set_th_dict has thresholds for {', '.join(unknown)}, but the prepared network has no such node")
        self.th_dict = checked

    # --- settings, before `quantize`

    def set_restore(self, name):
        """Compute this node in float (to find a culprit; the result cannot be compiled)."""
        self._not_quantized("set_restore")
        node = self.current_model.graph.find(name)
        if node is None or node.is_variable:
            raise MRTError(f"cannot restore {name!r}: " + ("no such node in the prepared network" if node is None else
                                                           "it is an input or a parameter, and nothing is computed there"))
        self.restore_names.add(name)

    def set_input_prec(self, prec):
        """Bits of the input, 8 by default."""
        self._not_quantized("set_input_prec")
        self.precs["data"][OUT_KEY] = SETTINGS["input_precision"].checked(prec)

    def set_operand_prec(self, layer, prec):
        """Bits at which a Convolution or FullyConnected takes its input: up to 8, the default, or up to 15 by running it in two
        parts, for layers whose input must be finer. `layer`: node name in the prepared network."""
        self._not_quantized("set_operand_prec")
        node = self.current_model.graph.find(layer)
        if node is None or not is_layer(node):
            raise MRTError(f"set_operand_prec: {layer!r} is no Convolution or FullyConnected of the prepared network")
        self.precs[node.inputs[0].node.name][layer] = SETTINGS["operand_precision"].checked(prec, layer)

    def set_output_prec(self, prec):
        """Bits that every output has at most; without it, or with None, an output keeps the precision that falls out."""
        self._not_quantized("set_output_prec")
        prec = SETTINGS["output_precision"].checked(prec)
        for name in self.old_names:
            self.precs[name].pop(name, None)
            self.precs[name].update({} if prec is None else {name: prec})

    set_out_prec = set_output_prec

    def set_softmax_lambd(self, val):
        """Softmax treats logits further than this below the largest as this far below. Default 10."""
        self._not_quantized("set_softmax_lambd")
        self.softmax_lambd = SETTINGS["softmax_lambd"].checked(val)

    def set_shift_bits(self, val):
        """How many bits too many a tensor may have before the preset `original` shifts it. Elsewhere rescaling is exact, and this
        has no use."""
        self._not_quantized("set_shift_bits")
        self.shift_bits = SETTINGS["shift_bits"].checked(val)

    def set_techniques(self, **techniques):
        """Switch techniques of quantization, before `quantize`. The default is the most accurate that takes no longer; adaptive
        rounding and empirical bias correction must be chosen before `calibrate`, which keeps what they need.

        weight_granularity: "channel" (one weight scale per output channel) or "tensor"
        full_range:      non-negative inputs of layers use all codes from -127 to 127
        equalize:        channels of a layer's input get scales of their own where that lowers the rounding noise
        clip_inputs:     a layer's input is clipped where that lowers its mean square error
        bias_correction: "analytic": biases make up for the mean error of the rounded weights; "empirical": for the mean error
                         of every layer of the integer network, measured on the first samples (mrt.bias), whose tensors must
                         fit into memory; or "none"
        rounding:        of weights: "nearest" or "adaptive", which lets the other weights of an output make up for the error of
                         each (mrt.rounding)
        two_part_budget: share of the network's time, of its gas and of its parameter bytes that may each be spent on taking
                         inputs or weights in two parts, in the layers where calibration found it to pay most; 0 for none
        """
        self._not_quantized("set_techniques")
        self.techniques.update(checked_techniques(techniques))

    def set_preset(self, name):
        """"default", the best that is known, or "original", what the original MRT did, for comparison (see
        `mrt.quantization.original`); it knows none of the techniques. Before `quantize`."""
        self._not_quantized("set_preset")
        self.preset = SETTINGS["preset"].checked(name)

    # --- quantization

    def quantizer(self):
        """(class, options) of the quantization by the settings made so far, as `mrt.quantization.quantize` takes them."""
        foreign = [*self.techniques, *(f"op_input_precs[{name!r}]" for name in self.op_input_precs.changed)]
        if self.preset != "default" and foreign:
            raise MRTError(f"the preset {self.preset} has none of the techniques {', '.join(foreign)}; set one or the other")
        chosen = {name: SETTINGS[name].checked(getattr(self, name)) for name in ("softmax_lambd", "shift_bits")}
        options = Options(self.op_input_precs, self.precs, frozenset(self.restore_names), **chosen,
                          **checked_techniques(self.techniques))
        return PRESETS[SETTINGS["preset"].checked(self.preset)], options

    def quantize(self):
        """The integer Model (also `current_model`). Needs a threshold for every node; once per object."""
        self._not_quantized("quantize")
        if not self.th_dict:
            raise StateError("quantize needs thresholds: call set_data and calibrate first, or set_th_dict")
        quantizer, options = self.quantizer()
        result = quantize_graph(self.current_model.graph, self.th_dict, self.channels, options, self.sensitivities, quantizer,
                                self.grams)
        if options.bias_correction == "empirical":
            correct_means(self.current_model.graph, result, self.samples)
        for name, precision in result.precisions.items():
            self.precs[name][OUT_KEY] = precision
        self.scales = {name: _plain(scale) for name, scale in result.scales.items()}
        self.scales.update((t.entry.node.name, _plain(t.scale)) for t in result.outputs)
        self.current_model = Model.of(result.graph)
        return self.current_model

    def get_output_scales(self):
        """Scale of each output: real value = integer / scale."""
        self._quantized("get_output_scales")
        return [self.scales[name] for name in self.current_model.output_names()]

    def get_maps(self):
        """Current output name -> name it had in the prepared model."""
        return dict(zip(self.current_model.output_names(), self.old_names))

    def get_inputs_ext(self):
        """{"data": {"scale": s, "target_bit": p}}: how real input becomes integers."""
        self._quantized("get_inputs_ext")
        return {"data": {"scale": self.scales["data"], "target_bit": self.precs["data"][OUT_KEY]}}

    # --- checkpoints

    def save(self, model_name, datadir="./data"):
        """Write datadir/model_name.json, .params and .ext (one JSON document per line: old output names, thresholds,
        precisions, scales, settings). What adaptive rounding and empirical bias correction need is kept among the params until
        the network is quantized."""
        symbol_file, params_file, ext_file = self._files(model_name, datadir)
        kept = {} if self.current_model.is_quantized() else saved.arrays(self.grams, self.samples)
        mxnet.save(self.current_model.graph, symbol_file, params_file, kept)
        saved.write(ext_file, self, bool(kept), {"json": sha256(symbol_file), "params": sha256(params_file)})

    @staticmethod
    def load(model_name, datadir="./data"):
        """Read what `save` wrote; files of the original, without the line of settings, load with default settings. ModelError
        for a file that holds anything else than `save` writes."""
        symbol_file, params_file, ext_file = MRT._files(model_name, datadir)
        mrt, attributes = MRT(Model.load(symbol_file, params_file)), saved.read(ext_file)
        if attributes.pop("keeps_arrays", False):
            mrt.grams, mrt.samples = saved.read_arrays(params_file)
        for name, value in attributes.items():
            setattr(mrt, name, value)
        mrt._loaded_ths = dict(mrt.th_dict)
        return mrt

    @staticmethod
    def _files(model_name, datadir):
        path = os.path.join(arguments.path("datadir", datadir), arguments.path("model_name", model_name))
        return extend_fname(path, with_ext=True)

    def _not_quantized(self, method):
        if self.current_model.is_quantized():
            raise StateError(f"{method}: this MRT object has quantized its model already; start from Model.get_mrt() again")

    def _quantized(self, method):
        if not self.current_model.is_quantized():
            raise StateError(f"{method}: call quantize first")


class ModelSpliter:
    """`ModelSpliter(model, keys).split()` is `model.split(keys)`."""

    def __init__(self, model, keys):
        self.model, self.keys = model, keys

    def split(self):
        return self.model.split(self.keys)


class ModelMerger:
    """Joins a quantized base and its top again."""

    def __init__(self, base_model, top_model, base_name_maps=None):
        self.base = arguments.instance("the base", base_model, Model, "a quantized Model")
        self.top = arguments.instance("the top", top_model, Model, "a Model")
        self.maps = arguments.mapping("base_name_maps", base_name_maps or {name: name for name in base_model.output_names()},
                                      "a map of names to names, as MRT.get_maps() gives it")

    def merge(self, callback=None):
        """One integer Model. `callback(node, top_params, graph) -> node` sees every node of the top with its new inputs and
        may return another; `graph` maps the names done so far to nodes. It is called for the inputs that the base replaces
        too, with its result ignored there."""
        if callback is not None:
            arguments.instance("the callback", callback, collections.abc.Callable, "a function of (node, top_params, graph)")
        outputs = {self.maps[e.node.name]: e for e in self.base.graph.outputs if e.node.name in self.maps}
        missing = [node.name for node in self.top.graph.inputs() if node.name not in outputs]
        if missing:
            raise MRTError(f"the base computes {', '.join(outputs) or 'nothing'}, but the top needs {', '.join(missing)}")
        base_params, top_params = self.base.graph.params, self.top.graph.params
        done = {}

        def visit(node, inputs):
            new = node.with_inputs(inputs)
            new = callback(new, top_params, done) if callback else new
            if node.name in outputs:
                new = outputs[node.name]
            done[node.name] = new
            return new

        clashes = [n for n in top_params if n in base_params and not np.array_equal(top_params[n], base_params[n])]
        if clashes:
            raise MRTError(f"base and top have different parameters of the same name: {', '.join(clashes)}; rename them")
        graph = self.top.graph.rewrite(visit, {**base_params, **top_params})
        graph.check_names()
        return Model.of(_with_precisions(graph))

    def get_output_scales(self, base_oscales, maps):
        """Scale of each merged output, in output order. `base_oscales`: scales of the base's outputs, in their order; `maps`:
        merged output name -> original name of the base output whose scale it carries, or "None" for scale 1."""
        by_name = {self.maps.get(n, n): s for n, s in zip(self.base.output_names(), base_oscales)}
        maps = arguments.mapping("maps", maps, "a map of output names to names")
        names = self.top.output_names()
        if sorted(maps) != sorted(names):
            raise MRTError(f"output scales are given for {', '.join(maps)}, but the outputs are {', '.join(names)}")
        unknown = [value for value in maps.values() if value not in ("None", None) and value not in by_name]
        if unknown:
            raise MRTError(f"{', '.join(unknown)} is no output of the base; those are {', '.join(by_name)}")
        return [1 if maps[name] in ("None", None) else by_name[maps[name]] for name in names]


def reduce_graph(model, input_shapes):
    """A quantized Model for another shape of its input: `input_shapes` is {"data": shape}, batch included."""
    arguments.instance("the model", model, Model, "a Model")
    arguments.mapping("input_shapes", input_shapes, "a map such as {'data': (1, 3, 224, 224)}")
    graph = fold_constants(name_input(model.graph, arguments.shape("the shape", input_shapes)))
    infer_shapes(graph)
    return Model.of(_with_precisions(graph))


def _with_precisions(graph):
    """Constants that came with the top or from folding get the precision their values need."""
    def visit(node, inputs):
        if not graph.is_param(node) or "precision" in node.attrs:
            return node.with_inputs(inputs)
        return Node(node.op, node.name, attrs={**node.attrs, "precision": bits(graph.params[node.name])})

    return graph.rewrite(visit) if simulate.is_integer(graph) else graph


def _verify(symbol, params):
    import cvm_runtime
    try:
        cvm_runtime.load(symbol.encode(), params, ctx=cvm_runtime.formal())
    except cvm_runtime.CvmError as error:
        raise ModelError(f"the runtime refuses the compiled model: {error}") from error


def _float_type(dtype):
    return arguments.choice("dtype", np.dtype(dtype).name if isinstance(dtype, (type, np.dtype)) else dtype, FLOATS)


def _checked_thresholds(what, thresholds):
    thresholds = arguments.mapping(what, thresholds, "a map of node names to thresholds")
    return {name: SETTINGS["thresholds"].checked(value, name) for name, value in thresholds.items()}


def _plain(scale):
    return np.asarray(scale, np.float64).tolist()
