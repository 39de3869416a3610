"""One table of settings: the methods of MRT, the configuration and the checkpoint accept and refuse the same values."""
import json

import nets
import numpy as np
import pytest
from test_operators import IMAGE, IMAGES, Draw, exact, network

from mrt.errors import ModelError, MRTError, StateError
from mrt.frontend.mxnet import to_symbol
from mrt.mxnet_bridge import mx
from mrt.ops import OPERATORS
from mrt.pipeline import config
from mrt.quantization.input_precisions import INPUT_PRECISIONS
from mrt.quantization.techniques import SETTINGS, TECHNIQUES, Setting
from mrt.transformer import MRT

S = mx.sym


def small():
    """A calibrated MRT of a small network."""
    model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
    model.prepare(nets.SMALL_SHAPE)
    mrt = model.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    return mrt


SETTERS = {"input_precision": lambda mrt, v: mrt.set_input_prec(v), "output_precision": lambda mrt, v: mrt.set_output_prec(v),
           "operand_precision": lambda mrt, v: mrt.set_operand_prec("c1", v), "preset": lambda mrt, v: mrt.set_preset(v),
           "thresholds": lambda mrt, v: mrt.set_threshold("r1", v), "softmax_lambd": lambda mrt, v: mrt.set_softmax_lambd(v),
           "shift_bits": lambda mrt, v: mrt.set_shift_bits(v), "lambda_": lambda mrt, v: mrt.calibrate(lambd=v),
           "calibrate_method": lambda mrt, v: mrt.calibrate(method=v),
           **{name: lambda mrt, v, name=name: mrt.set_techniques(**{name: v}) for name in TECHNIQUES}}
TABLE = {**SETTINGS, **TECHNIQUES}


def wrong(setting):
    """Values of another type, and the nearest ones out of range."""
    values = {bool: [1, "True", "no", 0.5], str: ["other", 1, True], int: ["8", 8.0, True, [8]],
              float: ["1", True, float("nan"), float("inf"), [1.0]]}[setting.kind]
    step = 1 if setting.kind is int else 0.001
    return values + [end + sign * step for end, sign in ((setting.low, -1), (setting.high, 1)) if end is not None]


def test_every_setting_has_a_method():
    assert set(SETTERS) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_methods_refuse_what_is_not_a_value(name):
    setting, mrt = TABLE[name], small()
    for value in wrong(setting):
        with pytest.raises(MRTError) as caught:
            SETTERS[name](mrt, value)
        text = str(caught.value)
        assert repr(value) in text and setting.expected in text and setting.setter in text and setting.key in text
    for value in {setting.default, *setting.choices, setting.low, setting.high} - {None, "lambda"}:
        SETTERS[name](mrt, value)
    with pytest.raises(MRTError):  # None only where it is the default
        SETTERS[name](mrt, None if setting.default is not None else object())


@pytest.mark.parametrize("name", TABLE)
def test_the_configuration_refuses_the_same(name, tmp_path):
    setting, path = TABLE[name], tmp_path / "net.ini"
    node = "conv: " if name in ("thresholds", "operand_precision") else ""
    for value in wrong(setting):
        if isinstance(value, list) or (setting.kind is not str and isinstance(value, str) and value in ("True", "8", "1")):
            continue  # the same text as of a right value
        if setting.kind is bool and value == 1:
            value = "1"
        header = f"[{setting.section}]\n"
        path.write_text("[DEFAULT]\nModel_name = net\nInput_shape = (-1, 1, 8, 8)\n[QUANTIZATION]\n[CALIBRATION]\nDataset = a\n"
                        .replace(header, f"{header}{setting.key} = {node}{value}\n"))
        with pytest.raises(config.ConfigError) as caught:
            config.load(path)
        assert f"[{setting.section}] {setting.key}: " in caught.value.problems[0]


@pytest.mark.parametrize("name", ["softmax_lambd", "shift_bits", "preset", *TECHNIQUES])
def test_a_checkpoint_refuses_the_same(name, tmp_path):
    mrt = small()
    mrt.save("net", str(tmp_path))
    lines = (tmp_path / "net.ext").read_text().splitlines()
    for value in wrong(TABLE[name]):
        settings = json.loads(lines[4])
        (settings["techniques"] if name in TECHNIQUES else settings)[name] = value
        (tmp_path / "net.ext").write_text("\n".join([*lines[:4], json.dumps(settings)]) + "\n")
        with pytest.raises(ModelError, match=rf"net\.ext, line 5: .*{name}.* expected "):
            MRT.load("net", str(tmp_path))


@pytest.mark.parametrize("line, change, message", [
    (4, {"quantize": 5}, "line 5: unknown setting 'quantize', expected some of softmax_lambd"),
    (4, {"sofmax_lambd": 3}, "line 5: unknown setting 'sofmax_lambd', did you mean 'softmax_lambd'"),
    (4, {"techniques": {"no_such": 1}}, "line 5: techniques: no technique is called no_such"),
    (4, {"techniques": 5}, "line 5: techniques: found 5, expected a map by name"),
    (4, {"op_input_precs": {"sum": 8}}, "line 5: op_input_precs: the precision of the input of sum cannot be set"),
    (4, {"restore_names": "c1"}, "line 5: restore_names: found 'c1', expected a list"),
    (4, {"channels": {"c1": 3}}, "line 5: channels: found 3, expected a list of vectors"),
    (4, {"channels": {"c1": ["x"]}}, "line 5: channels: expected lists of numbers for mean"),
    (4, {"sensitivities": {"c1": [[1]]}}, "line 5: sensitivities: expected lists of numbers for input"),
    (4, {"keeps_arrays": 1}, "line 5: keeps_arrays: found 1, expected true or false"),
    (3, {"c1": "x"}, "line 4: scales: found 'x', expected a number"),
    (2, {"c1": {"out_key": "x"}}, "line 3: precs: found 'x', expected a number of bits"),
    (2, {"fc1": {"fc1": 99}}, "line 3: precs: found 99, expected from 1 to 32 bits"),
    (1, {"c1": -1}, "line 2: th_dict: thresholds is -1, expected a number of at least 0"),
])
def test_a_checkpoint_with_other_keys_or_types_is_refused(line, change, message, tmp_path):
    small().save("net", str(tmp_path))
    lines = (tmp_path / "net.ext").read_text().splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **change})
    (tmp_path / "net.ext").write_text("\n".join(lines) + "\n")
    with pytest.raises(ModelError) as caught:
        MRT.load("net", str(tmp_path))
    assert message in str(caught.value) and "net.ext, " in str(caught.value)


def test_settings_come_back_from_a_checkpoint(tmp_path):
    mrt = small()
    mrt.set_softmax_lambd(7)
    mrt.set_techniques(equalize=False, two_part_budget=0.5, rounding="nearest")
    mrt.op_input_precs["broadcast_add"] = 12
    mrt.set_restore("r1")
    mrt.save("net", str(tmp_path))
    loaded = MRT.load("net", str(tmp_path))
    assert (loaded.softmax_lambd, loaded.techniques, dict(loaded.op_input_precs), loaded.restore_names) == (
        mrt.softmax_lambd, mrt.techniques, dict(mrt.op_input_precs), mrt.restore_names)
    assert dict(loaded.op_input_precs) == {**INPUT_PRECISIONS, "broadcast_add": 12}


def test_thresholds_are_checked():
    mrt = small()
    with pytest.raises(MRTError, match="thresholds of c1 is -1, expected a number of at least 0"):
        mrt.set_th_dict({**mrt.th_dict, "c1": -1})
    with pytest.raises(MRTError, match="has thresholds for nowhere, but the prepared network has no such node"):
        mrt.set_th_dict({**mrt.th_dict, "nowhere": 1.0})
    with pytest.raises(MRTError, match="th_dict must be a map"):
        mrt.set_th_dict([1.0])
    with pytest.raises(MRTError, match="thresholds of r1 is 'x'"):
        mrt.calibrate(old_ths={"r1": "x"})
    with pytest.raises(MRTError, match="lambd is set, but the calibration method mse does not use it"):
        mrt.calibrate(method="mse", lambd=3.0)
    with pytest.raises(MRTError, match="needs a value of lambd"):
        mrt.calibrate(method="lambda")
    with pytest.raises(MRTError, match="input_precision is 0"):
        MRT(mrt.current_model, input_prec=0)


def test_attributes_are_checked_before_they_act():
    for name, value in (("softmax_lambd", "10"), ("shift_bits", -1), ("preset", "best"), ("techniques", {"equalize": "no"})):
        mrt = small()
        setattr(mrt, name, value)
        with pytest.raises(MRTError, match="expected"):
            mrt.quantize()


def test_nothing_can_be_set_after_quantize():
    mrt = small()
    mrt.quantize()
    for name, setter in SETTERS.items():
        with pytest.raises(StateError, match="has quantized its model already"):
            setter(mrt, TABLE[name].choices[0] if TABLE[name].choices else 8)
    for call in (lambda: mrt.set_restore("r1"), lambda: mrt.set_th_dict({}), lambda: mrt.set_data(nets.batch(nets.SMALL_SHAPE))):
        with pytest.raises(StateError, match="has quantized its model already"):
            call()


# --- input precisions: the entries that users of the original set

ORIGINAL = {"Convolution", "FullyConnected", "sigmoid", "exp", "softmax", "sum", "batch_dot", "L2Normalization", "broadcast_add",
            "broadcast_sub", "broadcast_mul", "elemwise_add", "elemwise_sub", "elemwise_mul", "Concat", "Embedding", "slice_like"}
INSTEAD = {"sum": "takes them as they come", "batch_dot": "cannot become integers", "L2Normalization": "becomes broadcast_mul",
           "elemwise_add": "elemwise_add: broadcast_add", "elemwise_sub": "becomes the broadcasting one of the same name",
           "elemwise_mul": "becomes the broadcasting one of the same name", "Concat": "as fine as its consumers want",
           "slice_like": "becomes slice, which takes its input as it comes", "add_n": "Model.prepare makes other operators of it",
           "log": "as large as it may be"}


def integer_network(op, bits=None):
    """(the parameters and symbol of the integer network of a case of `op`, quantized with that precision; MRT; batch)."""
    if op == "Embedding":
        model, x = nets.model(S.Embedding(S.var("data"), S.var("table"), input_dim=30, output_dim=4), (2, 5)), mx.nd.ones((2, 5))
    else:
        draw = Draw(0, IMAGE)
        with mx.name.NameManager():
            y = IMAGES[op][{"Activation": 3, "LeakyReLU": 7}.get(op, 0)](draw, draw.layer())
        model, x = nets.model(y, draw.shape, **draw.values), nets.batch(draw.shape, 1)
    model.prepare(x.shape)
    mrt = model.get_mrt()
    if bits:
        mrt.op_input_precs[op] = bits
    mrt.set_data(x)
    mrt.calibrate()
    graph = mrt.quantize().graph
    return to_symbol(graph).tojson() + "".join(map(str, (v.tobytes() for v in graph.params.values()))), mrt, x


@pytest.mark.parametrize("op", sorted(INPUT_PRECISIONS))
def test_a_precision_that_can_be_set_acts(op):
    default, *_ = integer_network(op)
    for bits in {2, INPUT_PRECISIONS[op] - 2, OPERATORS[op].most_input_bits} - {INPUT_PRECISIONS[op]}:
        changed, mrt, x = integer_network(op, bits)
        assert changed != default
        exact(mrt, x)


@pytest.mark.parametrize("op", sorted(ORIGINAL - set(INPUT_PRECISIONS) | set(INSTEAD)))
def test_a_precision_that_cannot_be_set_says_what_to_use(op):
    with pytest.raises(MRTError, match=f"the precision of the input of {op} cannot be set.*{INSTEAD[op]}"):
        small().op_input_precs[op] = 8


def test_input_precisions_are_checked():
    mrt = small()
    for value in (1, 17, 8.0, "8", True, None):
        with pytest.raises(MRTError, match=r"precision of the input of sigmoid is .*, expected an integer from 2 to 15"):
            mrt.op_input_precs["sigmoid"] = value
    with pytest.raises(MRTError, match="no operator 'Sigmod'; did you mean 'sigmoid'"):
        mrt.op_input_precs["Sigmod"] = 8
    with pytest.raises(MRTError, match="the input of sum cannot be set"):
        mrt.op_input_precs = {"sum": 8}
    mrt.op_input_precs["sigmoid"] = 8
    del mrt.op_input_precs["sigmoid"]
    assert dict(mrt.op_input_precs) == INPUT_PRECISIONS and not mrt.op_input_precs.changed
    mrt.op_input_precs["softmax"] = 8
    mrt.set_preset("original")
    with pytest.raises(MRTError, match=r"preset original has none of the techniques op_input_precs\['softmax'\]"):
        mrt.quantize()


# --- output precision

def detector(draw):
    """Two heads of class scores and one of boxes as detectors have them: transposed, flattened, joined, with softmax, sigmoid,
    anchors and strides as constants."""
    x = S.relu(draw.layer())
    scores = [S.Flatten(S.transpose(S.Convolution(part, kernel=(1, 1), num_filter=6, name=f"score{k}"), axes=(0, 2, 3, 1)))
              for k, part in enumerate((x, S.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")))]
    classes = S.softmax(S.Reshape(S.concat(*scores, dim=1), shape=(0, -1, 3)), axis=2, name="classes")
    raw = S.Reshape(S.Convolution(x, kernel=(1, 1), num_filter=8, name="raw"), shape=(0, 2, 4, -1))
    raw = S.transpose(raw, axes=(0, 3, 1, 2))
    centres = S.broadcast_mul(S.sigmoid(S.slice_axis(raw, axis=-1, begin=0, end=2)), draw.constant(values=[8.0]))
    sizes = S.broadcast_mul(S.exp(S.slice_axis(raw, axis=-1, begin=2, end=4)), draw.constant(values=[[3.0, 5.0], [40.0, 60.0]]))
    boxes = S.concat(centres - sizes / 2, centres + sizes / 2, dim=-1, name="boxes")
    confidence = S.tile(S.expand_dims(S.max(S.sigmoid(raw), axis=3), axis=-1), reps=(1, 1, 1, 2), name="confidence")
    return S.Group([S.slice_axis(classes, axis=2, begin=1, end=None), S.Reshape(boxes, shape=(0, -1, 4)), confidence, raw])


def decibel(real, found):
    return 10 * np.log10((real ** 2).sum() / ((real - found) ** 2).sum())


def test_output_precision_is_an_upper_bound_for_the_heads_of_a_detector():
    draw, found = Draw(0, IMAGE), {}
    symbol = detector(draw)
    for bits in (None, 2, 8, 16, 30, 32):
        model, x = nets.model(symbol, draw.shape, **draw.values), nets.batch(draw.shape)
        real = nets.run(model, x)
        model.prepare(draw.shape)
        mrt = model.get_mrt()
        mrt.set_data(x)
        mrt.calibrate()
        mrt.set_output_prec(bits)
        mrt.quantize()
        codes = exact(mrt, x)
        assert max(abs(c).max() for c in codes) < 2 ** ((bits or 32) - 1)
        exact(mrt, x * 100)
        found[bits] = [decibel(y, c / s) for y, c, s in zip(real, codes, mrt.get_output_scales())]
    for bits in (16, 30, 32):  # no worse than what falls out
        np.testing.assert_array_less(np.array(found[None]) - 0.5, found[bits])
    np.testing.assert_array_less(found[2], found[8])


@pytest.mark.slow
@pytest.mark.parametrize("bits", [2, 8, 16, 30, 32])
def test_every_operator_takes_every_output_precision(bits):
    for op in sorted(IMAGES):
        model, shape = network(IMAGE, op, 0, 3)
        x = nets.batch(shape, 4) + 1
        model.prepare(shape)
        mrt = model.get_mrt()
        mrt.set_data(x)
        mrt.calibrate()
        mrt.set_output_prec(bits)
        mrt.quantize()
        exact(mrt, x)
        exact(mrt, x * 1e3)


@pytest.mark.parametrize("bits", [16, 24, 31])
def test_wide_inputs_hold_their_integers_whatever_the_type_of_the_data(bits):
    model, x = nets.model(S.abs(S.var("data")), (1, 3, 5)), nets.batch((1, 3, 5)).astype("float16")
    model.prepare((1, 3, 5))
    mrt = model.get_mrt()
    mrt.set_input_prec(bits)
    mrt.set_data(x)
    mrt.calibrate()
    mrt.set_output_prec(bits)
    mrt.quantize()
    assert abs(exact(mrt, x)[0]).max() == 2 ** (bits - 1) - 1


def test_whole_numbers_of_numpy_are_taken_as_such():
    setting = Setting("x", int, 1, "", "set_x", low=1, high=3)
    assert setting.checked(np.int64(2)) == 2 and type(setting.checked(np.int64(2))) is int
