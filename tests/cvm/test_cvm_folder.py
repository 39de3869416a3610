"""Folders that hold one model, with and without the digests of their files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from graphs import GraphWriter

import cvm_runtime as cvm
from cvm_runtime import cli, folder

X = np.array([[1, -2, 3]])


def write(directory: Path, name: str) -> Path:
    """A model of one operator, with an `ext` that holds digests as MRT writes them."""
    g = GraphWriter()
    y = g.op(name, [g.data(X.shape, 8)], X.shape)
    y = g.op("elemwise_add", [y, g.param("w", np.full(X.shape, len(name)), 8)], X.shape)
    symbol, params = g.build([y])
    directory.mkdir()
    (directory / "symbol").write_bytes(symbol)
    (directory / "params").write_bytes(params)
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir()}
    (directory / "ext").write_text('"oscales: "\n[1.0]\n' + json.dumps({"sha256": digests}) + "\n")
    return directory


@pytest.fixture()
def two_models(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "first", "relu"), write(tmp_path / "second", "negative")


def test_a_folder_is_a_model(two_models: tuple[Path, Path]) -> None:
    first, second = two_models
    assert cvm.load_folder(first).run(X)[0].tolist() == [[5, 4, 7]]
    assert cvm.load_folder(str(second), cvm.formal()).run(X)[0].tolist() == [[7, 10, 5]]


@pytest.mark.parametrize("name", ["symbol", "params"])
def test_a_file_of_another_model_is_refused(two_models: tuple[Path, Path], name: str) -> None:
    first, second = two_models
    (first / name).write_bytes((second / name).read_bytes())
    with pytest.raises(cvm.CvmLogicError, match=rf"{name} is not the file .* or remove ext"):
        cvm.load_folder(first)
    (first / "ext").unlink()
    cvm.load_folder(first)


def test_what_cannot_be_read_is_named(two_models: tuple[Path, Path], tmp_path: Path) -> None:
    first, _ = two_models
    for missing in (tmp_path / "none", first / "symbol"):
        with pytest.raises(cvm.CvmRuntimeError, match=rf"the folder {re.escape(str(missing))} cannot be read"):
            cvm.load_folder(missing)
    (first / "params").unlink()
    with pytest.raises(cvm.CvmRuntimeError, match=r"the params file .* No such file"):
        cvm.load_folder(first)


def test_an_ext_without_digests_is_accepted(
    two_models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = two_models
    for text in ('{"oscales": [1.0]}\n', '"oscales: "\n[1.0]\n', ""):
        (first / "ext").write_text(text)
        assert cli.main(["gas", str(first)]) == 0
    (first / "ext").unlink()
    assert cli.main(["gas", str(first)]) == 0
    for text in ('{"sha256": {"symbol"', "[" * 100000, "\xff"):
        (first / "ext").write_text(text, encoding="latin-1")
        capsys.readouterr()
        assert cli.main(["info", str(first)]) == 2
        assert "ext is damaged" in capsys.readouterr().err


def test_a_folder_read_while_it_is_replaced_is_the_old_one(
    two_models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_models
    wanted = [(first / name).read_bytes() for name in ("symbol", "params")]
    plain = folder._read

    def read(place: Path, handle: int, name: str, limit: int = -1) -> bytes:
        content = plain(place, handle, name, limit)
        if name == "symbol":
            os.rename(first, first.with_name("old"))
            os.rename(second, first)
        return content

    monkeypatch.setattr(folder, "_read", read)
    assert folder.read_folder(first, "symbol", "params") == wanted
