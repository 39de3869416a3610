"""The stages of a configuration: from a float network to a compiled integer one and its accuracy."""
import contextlib
import io
import json
import math
import os
import sys
import time
import warnings

import numpy as np

from mrt import __version__
from mrt import sim_quant_helper as sim
from mrt.dataset import DS_REG, DatasetError
from mrt.errors import MRTError, MRTWarning
from mrt.files import atomic_folder, atomic_write, extend_fname, model_files, sha256
from mrt.mxnet_bridge import mx
from mrt.pipeline import checkpoint, config, nodes
from mrt.pipeline.checkpoint import plain
from mrt.pipeline.evaluate import Compiled, Evaluation, Executor
from mrt.progress import Progress
from mrt.quantization.techniques import TECHNIQUES
from mrt.transformer import MRT, Model, reduce_graph

__all__ = ["Run", "attribute_scaler", "batch_axis", "restored_nodes", "sample_count", "set_batch"]


def set_batch(input_shape, batch):
    """`input_shape` as a list with every -1 replaced by `batch`."""
    return [batch if n == -1 else n for n in input_shape]


def batch_axis(input_shape):
    """Index of the only -1. AssertionError if there is not exactly one."""
    axes = [i for i, n in enumerate(input_shape) if n == -1]
    assert len(axes) == 1, f"input shape {tuple(input_shape)} must hold exactly one -1, the batch axis"
    return axes[0]


class Run:
    """One run of a configuration: the settings, what the stages have made so far, and what is reported about them."""

    stages = ("prepare", "split", "calibrate", "quantize", "merge", "compile", "evaluate")

    def __init__(self, settings):
        self.settings = settings
        self.split_wanted = bool(settings.split_model.keys)
        self.model = self.base = self.top = self.mrt = self.quantized = None
        self.inputs_ext = self.oscales = self.evaluation = self.dump_folder = self._progress = None
        self._opened = {}  # data sets that `check` had to open, by section and batch
        self.report = {"mrt": __version__, "configuration": os.path.abspath(settings.file), "stages": {}, "notices": []}

    # ---- the order of things

    def run(self):
        """Run the stages from Start on, print a line for each and the table at the end. Returns the report."""
        default = self.settings.default
        mx.random.seed(default.seed)
        np.random.seed(default.seed % 2**32)
        start = time.perf_counter()
        with Progress("check"):
            self.check()
        started, before = config.STAGES.index(default.start), time.perf_counter() - start
        for number, name in enumerate(self.stages, 1):
            reason = f"Start = {default.start}" if number <= started else self._why_skipped(name)
            if reason:
                print(f"[{number}/7] {name:<9}  skipped ({reason})", flush=True)
                self.report["stages"][name] = {"skipped": reason}
                continue
            start = time.perf_counter()
            with Progress(name) as self._progress:
                said = getattr(self, name)()
            seconds, before = before + time.perf_counter() - start, 0.0  # the first stage has done its work in `check`
            print(f"[{number}/7] {name:<9} {seconds:7.2f} s  {said}", flush=True)
            self.report["stages"][name] = {"seconds": round(seconds, 3), "result": said}
        self._finish()
        return self.report

    def _why_skipped(self, stage):
        if stage in ("split", "merge") and not self.split_wanted:
            return "no Keys in [SPLIT_MODEL]"
        if stage == "compile" and self.settings.compilation is None:
            return "no section [COMPILATION]"
        if stage == "evaluate" and self.settings.evaluation is None:
            return "no section [EVALUATION]"
        if stage == "evaluate" and not self.settings.evaluation.iter_num:
            return "Iter_num is 0"
        return None

    def notice(self, text):
        """Say something once that the user should know and that stops nothing."""
        if text not in self.report["notices"]:
            self.report["notices"].append(text)
            print(f"notice: {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def _noticing(self):
        """Warnings of the library become notices."""
        with warnings.catch_warnings():
            warnings.simplefilter("always", MRTWarning)
            show = warnings.showwarning

            def told(message, category, *place):
                if issubclass(category, MRTWarning):
                    self.notice(str(message))
                else:
                    show(message, category, *place)
            warnings.showwarning = told
            yield

    # ---- what comes before the first stage

    def check(self):
        """Load what Start says and look at everything of the configuration that needs it, or data that only their class knows.
        ConfigError with every problem."""
        self._load_start()
        problems = []
        if self.settings.default.start not in ("QUANTIZATION", "MERGE_MODEL"):
            network = self.mrt.current_model if self.mrt else self.base or self.model
            problems = nodes.problems(self.settings, network.graph, self.top and self.top.graph)
        problems += self._open_unknown_data()
        if problems:
            raise config.ConfigError(problems)

    def _open_unknown_data(self):
        """Open data sets that do not tell how much they hold, each part once, and keep them for their stages."""
        problems, seen = [], set()
        skipped = {"CALIBRATION": self.mrt or self.quantized, "EVALUATION": self._why_skipped("evaluate"),
                   "COMPILATION": self._why_skipped("compile")}
        for section in [section for section, reason in skipped.items() if not reason]:
            part = self.settings.section(section)
            cls = DS_REG[part.dataset]
            train = section == "CALIBRATION" and cls.train_part
            if "extent" in vars(cls) or (cls, part.dataset_dir, train) in seen:
                continue
            seen.add((cls, part.dataset_dir, train))
            try:
                dataset = self.open_data(section, part.batch, train=train)
            except DatasetError as error:
                problems.append(f"{self.settings.where(section, 'Dataset')}: {error}")
                continue
            self._opened[section, part.batch] = dataset
            if section == "CALIBRATION" and hasattr(dataset.data, "__len__"):
                text = config.too_few(self.settings, dataset.name, dataset.part, len(dataset.data))
                problems += [f"{self.settings.where(section, 'Calibrate_num')}: {text}"] if text else []
        return problems

    def _kept(self, suffix):
        return self.settings.kept_prefix + suffix

    def _load_start(self):
        """What the stage named by Start has kept, or the model itself, prepared."""
        start = self.settings.default.start
        if start == "DEFAULT":
            self.model = nodes.prepared(self.settings)
            return
        said = checkpoint.verify(self.settings, start)
        if said:
            self.notice(said)
        name, folder = self.settings.default.model_name, self.settings.default.output_dir
        if start == "PREPARE":
            self.model = Model.load(*extend_fname(self._kept(".prepare")))
        elif start == "SPLIT_MODEL":
            self.base = Model.load(*extend_fname(self._kept(".base")))
        elif start == "MERGE_MODEL":
            self._load_merged()
        else:
            suffix = "calibrate" if start == "CALIBRATION" else "quantize"
            self.mrt = MRT.load(f"{name}.mrt.{suffix}", folder)
        if self.split_wanted and start in ("SPLIT_MODEL", "CALIBRATION", "QUANTIZATION"):
            self.top = Model.load(*extend_fname(self._kept(".top")))
        if start == "QUANTIZATION":
            self._take_quantized(self.mrt.current_model)

    def _load_merged(self):
        symbol_file, params_file, ext_file = extend_fname(self._kept(".all.quantize"), True)
        lines = sim.load_ext(ext_file)
        if len(lines) != 6:
            raise MRTError(f"{ext_file}: {len(lines)} lines, expected 6; write the check point again with Dump = True")
        self.quantized, self.oscales, self.inputs_ext = Model.load(symbol_file, params_file), lines[1], lines[3]

    def _take_quantized(self, model):
        self.quantized = model
        self.oscales, self.inputs_ext = self.mrt.get_output_scales(), self.mrt.get_inputs_ext()

    # ---- stages; each returns what its line says

    def prepare(self):
        """Keep the model, which `check` has rewritten to the operators that can become integers."""
        if self.settings.prepare.dump:
            with self._keeping("PREPARE"):
                self.model.save(*extend_fname(self._kept(".prepare")))
        return f"{len(self.model.output_names())} output(s), {len(self.model.graph.params)} parameters"

    def split(self):
        """Cut the model behind the nodes named in Keys."""
        self.base, self.top = self.model.split(list(self.settings.split_model.keys))
        others = [name for name in self.top.input_names() if name not in self.base.output_names()]
        if others:
            raise MRTError(f"what lies behind {', '.join(self.settings.split_model.keys)} needs {', '.join(others)} besides, and "
                           "the compiled network has one input; save the network without the outputs that need it, or with "
                           "those nodes as its outputs")
        if self.settings.split_model.dump:
            with self._keeping("SPLIT_MODEL"):
                self.base.save(*extend_fname(self._kept(".base")))
                self._save_top()
        return f"cut behind {', '.join(self.settings.split_model.keys)}"

    def calibrate(self):
        """Find the threshold of every tensor on a few batches."""
        part = self.settings.calibration
        self.mrt = (self.base if self.split_wanted else self.model).get_mrt()
        if self.settings.quantization.preset == "default":  # for those that calibration has to gather something for
            self.mrt.set_techniques(**{name: getattr(self.settings.quantization, name) for name in TECHNIQUES})
        dataset = self.open_data("CALIBRATION", part.batch, train=True)
        following, samples = dataset.iter_func(), 0
        axis = batch_axis(self.settings.default.input_shape)
        context = self._contexts("CALIBRATION")[0]
        self._progress.expect(part.calibrate_num, "batches")
        for index in range(part.calibrate_num):
            try:
                data, _ = following()
            except StopIteration:
                raise MRTError(f"{self.settings.where('CALIBRATION', 'Calibrate_num')}: "
                               + config.too_few(self.settings, dataset.name, dataset.part, index)) from None
            self.mrt.set_data(data)
            with self._noticing():
                self.mrt.calibrate(ctx=context, lambd=part.lambda_, method=part.calibrate_method)
            samples += data.shape[axis]
            self._progress.update()
        self.mrt.techniques.clear()  # what is kept fits any; `quantize` sets them
        if part.dump:
            with self._keeping("CALIBRATION"):
                self.mrt.save(f"{self.settings.default.model_name}.mrt.calibrate", self.settings.default.output_dir)
                self._save_top()
        self.report["calibration"] = {"dataset": dataset.name, "part": dataset.part, "samples": samples,
                                      "folder": dataset.root_dir}
        return f"{samples} samples of {dataset.name}, {dataset.part}; {part.calibrate_method}"

    def quantize(self):
        """Turn every tensor into integers."""
        part, mrt = self.settings.quantization, self.mrt
        self._set_quantization()
        self._take_quantized(mrt.quantize())
        if part.dump:
            with self._keeping("QUANTIZATION"):
                mrt.save(f"{self.settings.default.model_name}.mrt.quantize", self.settings.default.output_dir)
                self._save_top()
        return f"input {part.input_precision} bits, output {part.output_precision or 'as it comes'}" + (
            f", preset {part.preset}" if part.preset != "default" else "")

    def _set_quantization(self):
        """Tell the quantizer what stands in the configuration."""
        part, mrt = self.settings.quantization, self.mrt
        mrt.set_input_prec(part.input_precision)
        if part.output_precision is not None:
            mrt.set_output_prec(part.output_precision)
        mrt.set_softmax_lambd(part.softmax_lambd)
        mrt.set_shift_bits(part.shift_bits)
        with self._naming("Thresholds"):
            for name, threshold in part.thresholds.items():
                mrt.set_threshold(name, threshold)
        with self._naming("Operand_precision"):
            for layer, precision in part.operand_precision.items():
                mrt.set_operand_prec(layer, precision)
        mrt.set_preset(part.preset)
        if part.preset == "default":
            mrt.set_techniques(**{name: getattr(part, name) for name in TECHNIQUES})
        for name in restored_nodes(mrt.current_model.graph, part.restore_name):
            mrt.set_restore(name)

    @contextlib.contextmanager
    def _naming(self, key):
        """Errors say which key of [QUANTIZATION] they are about."""
        try:
            yield
        except MRTError as error:
            raise MRTError(f"{self.settings.where('QUANTIZATION', key)}: {error}") from None

    def load_calibrated(self):
        """Only get as far as `mrt`, calibrated and ready to quantize, from Start on."""
        self.check()
        if self.mrt is None:
            for name in self.stages[config.STAGES.index(self.settings.default.start):self.stages.index("calibrate") + 1]:
                if not self._why_skipped(name):
                    with Progress(name) as self._progress:
                        getattr(self, name)()
        self._set_quantization()

    def merge(self):
        """Join the integer half and its top, with the real-valued attributes of the top in units of the integers."""
        part, maps = self.settings.merge_model, self.mrt.get_maps()
        scales = {maps[name]: scale for name, scale in zip(self.quantized.output_names(), self.oscales)}
        merger = Model.merger(self.quantized, self.top, maps)
        callback = attribute_scaler(self.top.graph, part.attribute_deps, scales,
                                    self.settings.where("MERGE_MODEL", "Attribute_deps"))
        merged = merger.merge(callback)
        self.oscales = merger.get_output_scales(self.oscales, dict(part.oscale_maps))
        self.quantized = merged
        if part.dump:
            symbol_file, params_file, ext_file = extend_fname(self._kept(".all.quantize"), True)
            with self._keeping("MERGE_MODEL"):
                merged.save(symbol_file, params_file)
                sim.save_ext(ext_file, "oscales: ", self.oscales, "input_ext: ", self.inputs_ext, "input shapes: ",
                             list(self.settings.default.input_shape))
        return f"{len(self.oscales)} output(s)"

    def compile(self):
        """Write symbol, params, data.npy and ext as a whole into Dump_dir/<Model_name>_cvm."""
        part, shape = self.settings.compilation, self.settings.default.input_shape
        full = tuple(set_batch(shape, part.batch))
        symbol, params = self.quantized.compiled(full)
        ext = {"inputs_ext": self.inputs_ext, "oscales": self.oscales, "input_shapes": list(shape)}
        npy = io.BytesIO()
        np.save(npy, self._sample_batch(full))
        self.dump_folder = self.settings.compiled_folder
        with atomic_folder(self.dump_folder, config.COMPILED_FILES) as folder:
            files = {name: os.path.join(folder, name) for name in config.COMPILED_FILES}
            atomic_write(files["symbol"], symbol)
            atomic_write(files["params"], params)
            atomic_write(files["data.npy"], npy.getvalue())
            ext["sha256"] = {name: sha256(files[name]) for name in ("symbol", "params")}
            atomic_write(files["ext"], json.dumps(ext) + "\n")
        if part.batch != 1:
            self.notice(f"compiled for batches of {part.batch}; a deployed model takes one sample: Batch = 1")
        return self.dump_folder

    def _sample_batch(self, shape):
        dataset = self.open_data("COMPILATION", self.settings.compilation.batch)
        try:
            data, _ = dataset.iter_func()()
        except StopIteration:
            data = None
        if data is None or tuple(data.shape) != shape:
            raise MRTError(f"{self.settings.where('COMPILATION', 'Batch')}: data set {dataset.name!r} gives no batch of "
                           f"shape {shape} for data.npy; choose a smaller Batch")
        codes = sim.load_real_data(data, "data", self.inputs_ext).asnumpy()
        return codes.astype(np.int8 if self.inputs_ext["data"]["target_bit"] <= 8 else np.int32)

    def evaluate(self):
        """Accuracy of the float, the simulated and the compiled model on the same samples."""
        part, shape = self.settings.evaluation, self.settings.default.input_shape
        dataset, axis = self.open_data("EVALUATION", part.batch), batch_axis(shape)
        contexts = self._contexts("EVALUATION")
        share = part.batch // len(contexts)
        if part.batch % len(contexts):
            raise MRTError(f"{self.settings.where('EVALUATION', 'Batch')}: {part.batch} samples do not divide among "
                           f"{len(contexts)} devices")
        original = Model.load(*model_files(self.settings.prefix)).to_graph(dtype="float32", ctx=contexts)
        reduced = reduce_graph(self.quantized, {"data": tuple(set_batch(shape, share))}).to_graph(ctx=contexts)
        runtime, formal = self._load_compiled(axis)
        self.evaluation = Evaluation(dataset, axis, Executor(original, contexts, axis, part.batch),
                                     Executor(reduced, contexts, axis, part.batch), self.inputs_ext, self.oscales,
                                     runtime, formal, part.formal_samples)
        total = sample_count(dataset, part.iter_num, part.batch)
        self._progress.expect(total, "samples", lambda: self.evaluation.seconds_left(total))
        self.evaluation.run(part.iter_num, part.batch, self._progress.update)
        return f"{self.evaluation.samples} samples of {dataset.name}, {dataset.part}"

    def _load_compiled(self, axis):
        """The dumped files in the runtime, on the device asked for and on the reference kernels."""
        if self.dump_folder is None:
            return None, None
        import cvm_runtime as cvm
        part, workers = self.settings.compilation, len(os.sched_getaffinity(0))
        try:
            formal = Compiled(cvm.load_folder(self.dump_folder, cvm.formal()), axis, workers)
            if part.device_type == "gpu":
                with contextlib.suppress(cvm.CvmRuntimeError):
                    return Compiled(cvm.load_folder(self.dump_folder, cvm.gpu(part.device_ids[0])), axis), formal
                self.notice(f"the runtime cannot use GPU number {part.device_ids[0]} here; it uses the CPU")
            return Compiled(cvm.load_folder(self.dump_folder, cvm.cpu(threads=1)), axis, workers), formal
        except cvm.CvmError as error:
            raise MRTError(f"the runtime refuses {self.dump_folder}: {error}") from error

    # ---- what stages share

    def _save_top(self):
        if self.top is not None:
            self.top.save(*extend_fname(self._kept(".top")))

    @contextlib.contextmanager
    def _keeping(self, stage):
        """The block writes the result of `stage`; until its end the check point counts as incomplete."""
        checkpoint.begin(self.settings, stage)
        yield
        self.report.setdefault("checkpoints", []).extend(checkpoint.store(self.settings, stage))

    def open_data(self, section, batch, train=False):
        """The data set of a section: its training part with `train`, where it has one."""
        if (section, batch) in self._opened:
            return self._opened.pop((section, batch))
        part = self.settings.section(section)
        cls = DS_REG[part.dataset]
        shape = tuple(set_batch(self.settings.default.input_shape, batch))
        options = {"root": part.dataset_dir} if part.dataset_dir else {}
        if train and cls.train_part:
            try:
                cls.locate(part.dataset_dir, True)
                options["is_train"] = True
            except DatasetError as error:
                self.notice(f"calibrating on the test part, because {error}")
        return cls(shape, **options)

    def _contexts(self, section):
        """MXNet contexts of a section; the CPU with a notice where a GPU is absent."""
        part = self.settings.section(section)
        if part.device_type != "gpu":
            return [mx.cpu()]
        missing = [i for i in part.device_ids if i >= mx.context.num_gpus()]
        if missing:
            self.notice(f"no GPU number {', '.join(map(str, missing))} on this machine; [{section}] uses the CPU")
            return [mx.cpu()]
        return [mx.gpu(i) for i in part.device_ids]

    # ---- the end

    def _finish(self):
        rows = self._table()
        width = max((len(title) for title, _ in rows), default=0)
        print()
        for title, text in rows:
            print(f"{title:<{width}}  {text}")
        self._write_report()
        evaluation = self.evaluation
        if evaluation and (evaluation.different or evaluation.formal_different):
            raise MRTError("the compiled model does not compute what the simulation computes; this is a defect of MRT, "
                           f"please report it with {self.dump_folder}")

    def _table(self):
        rows, evaluation = [("model", self.settings.default.model_name)], self.evaluation
        result = self.report["result"] = {}
        if evaluation:
            for column in evaluation.columns:
                count = f"{column.samples} sample{'s' * (column.samples != 1)}"
                rows.append((column.title, f"{column.text}  ({count}, {column.seconds:.1f} s)"))
                result[column.title] = {"metrics": column.figures(), "text": column.text, "samples": column.samples,
                                        "seconds": round(column.seconds, 3)}
            if evaluation.comparable:
                agreement = 100.0 * evaluation.agreeing / evaluation.samples
                rows.append(("agreement with float", f"{agreement:.2f}% of the samples have the same top-1 class"))
                result["agreement_percent"] = agreement
            rows.append(("bit-exact", self._exactness(result)))
        if self.dump_folder:
            self._describe_files(rows, result)
        return rows

    def _exactness(self, result):
        evaluation = self.evaluation
        if evaluation.runtime is None:
            return "not checked: nothing was compiled"
        result["bit_exact"] = not (evaluation.different or evaluation.formal_different)
        if result["bit_exact"]:
            return (f"yes: runtime = simulation on {evaluation.runtime.samples} samples, runtime = reference kernels on "
                    f"{evaluation.formal.samples}")
        return (f"NO: runtime differs from the simulation on {evaluation.different} samples, from the reference kernels "
                f"on {evaluation.formal_different}")

    def _describe_files(self, rows, result):
        import cvm_runtime as cvm
        files = {name: os.path.join(self.dump_folder, name) for name in config.COMPILED_FILES}
        size = os.path.getsize(files["params"])
        original = os.path.getsize(model_files(self.settings.prefix)[1])
        gas = cvm.gas(files["symbol"])
        rows.append(("parameters", f"{size:,} bytes (float model {original:,})"))
        rows.append(("gas", f"{gas:,}"))
        rows.append(("files", f"{self.dump_folder}{os.sep}{{{','.join(files)}}}"))
        result.update(parameter_bytes=size, gas=gas, files={p: sha256(p) for p in files.values()})

    def _write_report(self):
        path = self.settings.default.report
        if not path:
            return
        names = [s.lower() for s in config.SECTIONS]
        self.report["settings"] = {name: plain(vars(getattr(self.settings, name))) for name in names
                                   if getattr(self.settings, name)}
        self.report["versions"] = {"mxnet": mx.__version__, "numpy": np.__version__, "python": sys.version.split()[0]}
        atomic_write(path, json.dumps(self.report, indent=2) + "\n")
        print(f"report written to {path}")


def sample_count(dataset, batches, batch):
    """Number of samples in the first `batches` batches of a data set, or a bound where that does not tell its size."""
    extent = dataset.extent(dataset.root_dir, dataset.is_train)
    if extent is None:
        with contextlib.suppress(TypeError, NotImplementedError):
            batches = min(batches, len(dataset.data))
        return batches * batch
    count = extent[0]
    if dataset.last_batch == "discard" and count < math.inf:
        count -= count % batch
    return min(batches * batch, count)


def restored_nodes(graph, names):
    """Nodes meant by Restore_name: names, `_OP_<operator>`, and `_ALL_EXCEPT_` for all but the others listed."""
    nodes = [node for node in graph.topological() if not node.is_variable]
    chosen = set()
    for name in names:
        found = [n.name for n in nodes if name in (n.name, f"_OP_{n.kind}")]
        if not found and name != "_ALL_EXCEPT_":
            raise MRTError(f"Restore_name: the prepared model has no node or operator {name!r}")
        chosen.update(found)
    if "_ALL_EXCEPT_" in names:
        chosen = {n.name for n in nodes} - chosen
    return sorted(chosen)


def attribute_scaler(graph, attribute_deps, scales, where):
    """The callback for merging: attribute := int(attribute * scale of the node it depends on), for each operator named.

    attribute_deps: operator -> attribute -> node; scales: node -> scale. Raises MRTError for names that match nothing.
    """
    operators = {node.op for node in graph.topological() if not node.is_variable}
    problems = nodes.attribute_problems(operators, attribute_deps, list(scales), where)
    if problems:
        raise MRTError(problems[0])

    def callback(node, params, done):
        attributes = attribute_deps.get(node.op, {})
        if not attributes:
            return node
        scaled = {name: int(node.float(name, 0) * scales[base]) for name, base in attributes.items()}
        return type(node)(node.op, node.name, node.inputs, {**node.attrs, **scaled})
    return callback
