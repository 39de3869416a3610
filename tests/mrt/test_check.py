"""The command that says whether a network can be quantized, and the table of operators in the README."""
import json
from pathlib import Path

import nets
import pytest

from mrt import __main__ as command
from mrt.mxnet_bridge import mx
from mrt.ops import OPERATORS
from mrt.pipeline import check

README = Path(__file__).parents[2] / "README.md"


def saved(folder, symbol, shape, names=("net.json", "net.params")):
    files = [str(folder / name) for name in names]
    nets.model(symbol, shape).save(*files)
    return files


def bad():
    x = mx.sym.Pooling(mx.sym.var("data"), kernel=(2, 2), pool_type="lp", p_value=2, name="mean")
    return mx.sym.sin(x, name="wave")


def test_a_network_that_can(tmp_path, capsys):
    files = saved(tmp_path, nets.small_net(), nets.SMALL_SHAPE)
    assert check.main([*files, "--shape", "2,1,12,12"]) == 0
    assert "can be quantized" in capsys.readouterr().out
    assert check.main([str(tmp_path / "net"), "--shape", "2,1,12,12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"supported": True, "unsupported": []}


def test_a_network_that_cannot(tmp_path, capsys):
    saved(tmp_path, bad(), (1, 2, 4, 4), ("net-symbol.json", "net-0000.params"))
    prefix = str(tmp_path / "net")
    assert check.main([prefix, "--shape", "1,2,4,4"]) == 1
    text = capsys.readouterr().out
    assert "2 nodes" in text and "mean (Pooling): pool_type=lp\n    remedy: use max, avg or sum" in text and "wave (sin)" in text
    assert check.main([prefix, "--shape", "1,2,4,4", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["unsupported"]
    assert [item["node"] for item in found] == ["mean", "wave"]
    assert all(item["reason"] and item["remedy"] for item in found)


def test_the_files_of_a_symbol_file(tmp_path, capsys):
    saved(tmp_path, nets.small_net(), nets.SMALL_SHAPE)
    saved(tmp_path, bad(), (1, 2, 4, 4), ("other-symbol.json", "other-0000.params"))
    assert check.main([str(tmp_path / "net.json"), "--shape", "2,1,12,12"]) == 0
    assert check.main([str(tmp_path / "other-symbol.json"), "--shape", "1,2,4,4"]) == 1
    assert "2 nodes" in capsys.readouterr().out


def test_the_command_mrt(tmp_path, capsys):
    saved(tmp_path, bad(), (1, 2, 4, 4))
    assert command.main(["check", str(tmp_path / "net"), "--shape", "1,2,4,4"]) == 1
    assert "wave (sin)" in capsys.readouterr().out
    for name in command.COMMANDS:
        assert _status(command.main, [name]) == 2
        assert f"usage: mrt {name}" in capsys.readouterr().err
        assert _status(command.main, [name, "--help"]) == 0
        assert f"usage: mrt {name}" in capsys.readouterr().out
    assert command.main(["-h"]) == 0 and "mrt check" in capsys.readouterr().out
    assert command.main(["chek"]) == 2 and "no command 'chek'" in capsys.readouterr().err
    assert command.main([]) == 2
    scripts = (README.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert 'mrt = "mrt.__main__:main"' in scripts.split("[project.scripts]")[1].split("[")[0]


def test_below_the_keys(tmp_path, capsys):
    saved(tmp_path, bad(), (1, 2, 4, 4))
    model = [str(tmp_path / "net"), "--shape", "1,2,4,4", "--keys"]
    assert check.main([*model, "mean"]) == 1
    assert "1 node\n  mean (Pooling)" in capsys.readouterr().out
    assert check.main([*model, "data"]) == 0
    assert "can be quantized up to data: 0 nodes" in capsys.readouterr().out
    assert check.main([*model, "nothing"]) == 1
    assert "no node nothing to be split at" in capsys.readouterr().err


def test_an_input_that_only_nodes_above_the_keys_need(tmp_path, capsys):
    data, label = mx.sym.var("data"), mx.sym.var("im_info")
    y = mx.sym.FullyConnected(data, num_hidden=4, name="fc")
    mx.sym.Group([y, mx.sym.broadcast_mul(y, label, name="boxes")]).save(str(tmp_path / "net.json"))
    mx.nd.save(str(tmp_path / "net.params"), {"fc_weight": mx.nd.ones((4, 6)), "fc_bias": mx.nd.zeros(4)})
    model = [str(tmp_path / "net"), "--shape", "1,6"]
    assert check.main([*model, "--keys", "fc"]) == 0
    assert "can be quantized up to fc: 1 nodes, 1 FullyConnected" in capsys.readouterr().out
    assert check.main([*model, "--keys", "boxes"]) == 1
    assert "found 2: data, im_info" in capsys.readouterr().err


def _status(function, arguments):
    try:
        return function(arguments)
    except SystemExit as stop:
        return stop.code


def test_errors(tmp_path, capsys):
    files = saved(tmp_path, nets.small_net(), nets.SMALL_SHAPE)
    assert check.main([str(tmp_path / "other")]) == 1
    assert "other.json does not exist" in capsys.readouterr().err
    assert check.main([*files, "--shape", "2,3,12,12"]) == 1
    assert "shape" in capsys.readouterr().err
    for wrong in ([], [*files, "--shape", "a,b"]):
        with pytest.raises(SystemExit) as error:
            check.main(wrong)
        assert error.value.code == 2


def test_the_readme_has_the_table_of_operators(capsys):
    assert check.main(["--operators"]) == 0
    table = capsys.readouterr().out
    assert table in README.read_text(encoding="utf-8"), "write the output of `mrt check --operators` into the README"
    assert all(f"`{name}`" in table for name in OPERATORS if not name.startswith("cvm_"))
