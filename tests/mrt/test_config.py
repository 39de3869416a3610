"""The configuration reader: values, defaults, inheritance, and what every mistake says."""
import dataclasses

import pytest

from mrt.pipeline import config
from mrt.pipeline.config import ConfigError

MINIMAL = """\
[DEFAULT]
Model_name = net
Input_shape = (-1, 1, 28, 28)
[CALIBRATION]
Dataset = mnist
"""


@pytest.fixture
def write(tmp_path):
    """Writes text as tmp_path/net.ini and returns the path."""
    def write(text):
        path = tmp_path / "net.ini"
        path.write_text(text, encoding="utf-8")
        return path
    return write


def problems(path):
    with pytest.raises(ConfigError) as caught:
        config.check(config.load(path))
    return caught.value.problems


def only(path):
    found = problems(path)
    assert len(found) == 1, found
    return found[0]


def test_defaults(write):
    settings = config.load(write(MINIMAL))
    assert settings.calibration.batch == 16 and settings.calibration.calibrate_num == 1
    assert settings.calibration.lambda_ is None and settings.calibration.calibrate_method == "absmax"
    assert settings.quantization.input_precision == 8 and settings.quantization.output_precision is None
    assert settings.quantization.rounding == "nearest" and settings.quantization.bias_correction == "analytic"
    assert settings.quantization.softmax_lambd == 10 and settings.quantization.shift_bits == 5
    assert settings.default.start == "DEFAULT" and settings.default.verbosity == 0
    assert settings.evaluation is None and settings.compilation is None
    assert not settings.prepare.dump


def test_original_style_file_with_empty_values(write):
    text = MINIMAL.replace("Dataset = mnist", "Batch=256\nDataset=Custom\nCalibrate_num=\nLambda=\nDevice_type=") + """
[PREPARE]
Dump=
[SPLIT_MODEL]
Keys=
[QUANTIZATION]
Restore_name=
Input_precision: 8
Thresholds=
[MERGE_MODEL]
Attribute_deps=
Oscale_maps=
[EVALUATION]
Batch=
Iter_num=32
[COMPILATION]
Batch=256
Dump_dir=
"""
    settings = config.load(write(text))
    assert settings.evaluation.batch == 256 and settings.evaluation.iter_num == 32
    assert settings.compilation.batch == 256 and settings.compilation.dump_dir == settings.default.model_dir
    assert settings.merge_model.oscale_maps is None


def test_comments_indentation_and_types(write):
    settings = config.load(write("""\
; a comment
[DEFAULT]
# another
MODEL_NAME = a name = b
Input_shape = (38, -1)
Device_ids = 0, 1,
Verbosity: 20
[SPLIT_MODEL]
Keys =
    first,
    # not a value
    second
Dump = true
[CALIBRATION]
Dataset = mnist
Lambda = 2.5e1
[QUANTIZATION]
Thresholds = data: 2.64,
    conv_weight: 1
[MERGE_MODEL]
Attribute_deps = box_nms: valid_thresh: first, box_nms: other: second
Oscale_maps = out: first, ids: None
"""))
    assert settings.default.model_name == "a name = b" and settings.default.input_shape == (38, -1)
    assert settings.default.device_ids == (0, 1)
    assert settings.split_model.keys == ("first", "second") and settings.split_model.dump is True
    assert settings.calibration.lambda_ == 25.0 and settings.calibration.calibrate_method == "lambda"
    assert dict(settings.quantization.thresholds) == {"data": 2.64, "conv_weight": 1.0}
    assert dict(settings.merge_model.attribute_deps["box_nms"]) == {"valid_thresh": "first", "other": "second"}
    assert dict(settings.merge_model.oscale_maps) == {"out": "first", "ids": "None"}


def test_settings_are_immutable(write):
    settings = config.load(write(MINIMAL))
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.calibration.batch = 1
    with pytest.raises(TypeError):
        settings.quantization.thresholds["a"] = 1


def test_every_section_inherits_default(write):
    text = MINIMAL.replace("[CALIBRATION]", "Batch = 7\nDevice_type = gpu\nDevice_ids = 3\n[CALIBRATION]")
    settings = config.load(write(text + "[EVALUATION]\nDevice_type = cpu\n[COMPILATION]\nBatch = 2\n"))
    assert (settings.calibration.batch, settings.evaluation.batch, settings.compilation.batch) == (7, 7, 2)
    assert settings.calibration.device_type == "gpu" and settings.calibration.device_ids == (3,)
    assert settings.evaluation.device_type == "cpu"


def test_data_set_is_inherited_from_calibration_and_compilation_takes_one_sample(write, tmp_path):
    text = MINIMAL + "Dataset_dir = data\nBatch = 40\n[EVALUATION]\n[COMPILATION]\nDataset = cifar10\n"
    settings = config.load(write(text))
    assert settings.evaluation.dataset == "mnist" and settings.evaluation.batch == 40
    assert settings.evaluation.dataset_dir == settings.compilation.dataset_dir == str(tmp_path / "data")
    assert settings.compilation.dataset == "cifar10" and settings.compilation.batch == 1


def test_relative_paths_start_at_the_file(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    settings = config.load(write(MINIMAL.replace("[CAL", "Model_dir = models\n[CAL") + "[COMPILATION]\nDump_dir=../o\n"))
    assert settings.default.model_dir == str(tmp_path / "models")
    assert settings.compilation.dump_dir == str(tmp_path.parent / "o")


@pytest.mark.parametrize("old, new, parts", [
    ("Dataset = mnist", "Dataset = mnist\nBatc = 4", [":6: [CALIBRATION] Batc: unknown key", "did you mean 'Batch'?"]),
    ("[CALIBRATION]", "[CALIBRATE]\n[CALIBRATION]", [":4: unknown section [CALIBRATE]", "'CALIBRATION'"]),
    ("Dataset = mnist", "Dataset = mnist\nThresholds = a: 1", ["not a key of this section", "[QUANTIZATION]"]),
    ("Dataset = mnist", "Dataset = mnist\nBatch = many", [":6: [CALIBRATION] Batch: found 'many', expected an integer"]),
    ("Dataset = mnist", "Dataset = mnist\nBatch = 0", ["Batch: found '0', expected an integer from 1 to 2147483647"]),
    ("Dataset = mnist", "Dataset = mnist\nBatch = __import__('os')", ["Batch: found", "expected an integer"]),
    ("Dataset = mnist", "Dataset = mnist\nLambda = nan", ["Lambda: found 'nan', expected a number"]),
    ("Dataset = mnist", "Dataset = mnist\nDump = maybe", ["Dump: found 'maybe', expected True or False"]),
    ("Dataset = mnist", "Batch = 16", ["[CALIBRATION] Dataset: not set"]),
    ("Model_name = net", "", ["[DEFAULT] Model_name: not set"]),
    ("(-1, 1, 28, 28)", "(1, 1, 28, 28)", [":3: [DEFAULT] Input_shape", "one -1"]),
    ("(-1, 1, 28, 28)", "(-1, 1, 28,, 28)", ["nothing between two commas"]),
    ("[CALIBRATION]", "Start = CALIBRATON\n[CALIBRATION]", ["[DEFAULT] Start: found 'CALIBRATON'", "'CALIBRATION'?"]),
    ("[CALIBRATION]", "Start = MERGE_MODEL\n[CALIBRATION]", ["[DEFAULT] Start: MERGE_MODEL needs [SPLIT_MODEL] Keys"]),
    ("[CALIBRATION]", "Device_type = tpu\n[CALIBRATION]", ["Device_type: found 'tpu', expected one of cpu, gpu"]),
    ("Dataset = mnist", "Dataset = mnist\nDataset = mnist", [":6: [CALIBRATION] Dataset: set twice, first in line 5"]),
    ("[CALIBRATION]", "[DEFAULT]\n[CALIBRATION]", [":4: section [DEFAULT] stands twice"]),
    ("[CALIBRATION]", "[CALIBRATION", [":4: found '[CALIBRATION', expected a section"]),
    ("[DEFAULT]\n", "Verbosity = 1\n[DEFAULT]\n", [":1: found 'Verbosity = 1' before the first section"]),
    ("Dataset = mnist", "Dataset = mnist\nnonsense", [":6: found 'nonsense' without '='"]),
    ("Dataset = mnist", "Dataset = mnist\nCalibrate_method = max", ["Calibrate_method: found 'max'", "absmax"]),
    ("Dataset = mnist", "Dataset = mnist\nCalibrate_method = lambda", ["lambda needs a value for Lambda"]),
    ("Dataset = mnist", "Dataset = mnist\n[QUANTIZATION]\nPreset = orginal", ["did you mean 'original'?"]),
    ("Dataset = mnist", "Dataset = mnist\n[QUANTIZATION]\nBias_correction = True",
     ["Bias_correction: found 'True', expected one of none, analytic, empirical"]),
    ("Dataset = mnist", "Dataset = mnist\n[QUANTIZATION]\nRounding = adaptve", ["Rounding: found", "did you mean 'adaptive'?"]),
    ("Dataset = mnist", "Dataset = mnist\n[QUANTIZATION]\nPreset = original\nRounding = adaptive",
     ["[QUANTIZATION] Rounding: Preset = original knows nothing of it"]),
    ("Dataset = mnist", "Dataset = mnist\n[QUANTIZATION]\nPreset = original\nEqualize = True",
     ["[QUANTIZATION] Equalize: Preset = original knows nothing of it"]),
    ("Dataset = mnist", "Dataset = mnist\n[QUANTIZATION]\nThresholds = a: 1, a: 2", ["'a' is given twice"]),
    ("Dataset = mnist", "Dataset = mnist\n[QUANTIZATION]\nThresholds = a=1", ["'a=1' has not the form 'node: 2.64'"]),
    ("Dataset = mnist", "Dataset = mnist\n[QUANTIZATION]\nThresholds = a: -1", ["'-1' in 'a: -1' is not a number of at least 0"]),
    ("Dataset = mnist", "Dataset = mnist\n[MERGE_MODEL]\nOscale_maps = a: b", ["without [SPLIT_MODEL] Keys"]),
    ("Dataset = mnist", "Dataset = mnist\n[SPLIT_MODEL]\nKeys = a\n  b", ["a comma is missing between 'a' and 'b'"]),
])
def test_mistakes_name_place_and_remedy(write, old, new, parts):
    assert old in MINIMAL
    found = problems(write(MINIMAL.replace(old, new)))
    assert any(all(part in text for part in parts) for text in found), found
    assert all("net.ini" in text and "\n" not in text.replace("\\n", "") for text in found)


def test_all_mistakes_are_reported_at_once(write):
    found = problems(write(MINIMAL + "Batch = x\nDump = y\n[QUANTIZATION]\nShift_bits = z\nInput_precison = 8\n"))
    assert [any(word in text for text in found) for word in ("Batch", "Dump", "Shift_bits", "Input_precision")] == [True] * 4
    assert len(found) == 4


def test_keys_need_maps(write):
    found = problems(write(MINIMAL + "[SPLIT_MODEL]\nKeys = a, b\n"))
    assert len(found) == 2
    assert "[MERGE_MODEL] Attribute_deps: not set" in found[0] and "[MERGE_MODEL] Oscale_maps: not set" in found[1]


def test_devices(write):
    gpu = "Device_type = gpu\n"
    assert "Device_ids: not set" in only(write(MINIMAL + gpu))
    assert "expected one device" in only(write(MINIMAL + gpu + "Device_ids = 0, 1\n"))
    text = MINIMAL + "[EVALUATION]\nBatch = 5\nDevice_type = gpu\nDevice_ids = 0, 1\n"
    assert "Batch: found 5, expected a multiple of 2" in only(write(text))


def test_missing_file_and_other_bytes(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "absent.ini")
    (tmp_path / "b.ini").write_bytes(b"[DEFAULT]\n\xff\xfe")
    with pytest.raises(ConfigError, match="not a text file in UTF-8"):
        config.load(tmp_path / "b.ini")


# ---- what depends on the disk ----------------------------------------------------------------------------------------

@pytest.fixture
def model(tmp_path):
    """Empty files with the names of a model; `check` only looks whether they are there."""
    for suffix in ("json", "params"):
        (tmp_path / f"net.{suffix}").write_text("")
    return MINIMAL.replace("[CALIBRATION]", "Model_dir = .\n[CALIBRATION]").replace("mnist", "stdrandom")


def test_a_complete_configuration_passes(write, model):
    config.check(config.load(write(model)))


def test_missing_model(write, model):
    assert "no folder" in only(write(model.replace("Model_dir = .", "Model_dir = nowhere")))
    text = only(write(model.replace("= net", "= nett")))
    assert "Model_name: no file" in text and "nett.params" in text and "did you mean 'net'?" in text


def test_missing_checkpoint(write, model):
    text = only(write(model.replace("[CALIBRATION]", "Start = CALIBRATION\n[CALIBRATION]")))
    assert "Check point of `CALIBRATION` not found, please move the start point earlier" in text
    assert "net.mrt.calibrate.ext" in text and "Dump = True" in text


def test_unknown_data_set(write, model):
    text = only(write(model.replace("stdrandom", "mnits")))
    assert "Dataset: found 'mnits'" in text and "did you mean 'mnist'?" in text and "Dataset_module" in text


def test_missing_data(write, model, tmp_path):
    text = only(write(model.replace("stdrandom", "mnist\nDataset_dir = empty")))
    assert "t10k-images-idx3-ubyte.gz" in text and str(tmp_path / "empty" / "mnist") in text


def test_folder_that_cannot_be_written(write, model, tmp_path):
    (tmp_path / "file").write_text("")
    text = only(write(model + "[COMPILATION]\nDump_dir = file/out\n"))
    assert "[COMPILATION] Dump_dir: cannot write into" in text and "is not a folder" in text


def test_data_set_module(write, model, tmp_path):
    (tmp_path / "own.py").write_text("from mrt.dataset import VisionDataset, register_dataset\n"
                                     "@register_dataset('test_config_own')\nclass Own(VisionDataset):\n    pass\n")
    path = write(model.replace("stdrandom", "test_config_own\nDataset_module = own.py"))
    config.check(config.load(path))
    config.check(config.load(path))  # a second time: the module is not executed again
    (tmp_path / "bad.py").write_text("1 / 0\n")
    text = problems(write(model.replace("stdrandom", "stdrandom\nDataset_module = bad.py")))[0]
    assert "Dataset_module: bad.py cannot be imported (ZeroDivisionError" in text


def test_explain_lists_every_key():
    text = config.explain()
    assert all(word in text for word in ("[COMPILATION]", "Lambda", "Oscale_maps", "required"))
