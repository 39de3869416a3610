"""How many samples the reference kernels compute. The clock is a count of seconds that the models move themselves."""
import time
from pathlib import Path

import numpy as np
import pytest

from mrt.dataset import ArrayLoader, VisionDataset
from mrt.pipeline import config, evaluate, stages
from mrt.pipeline.evaluate import Evaluation
from mrt.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


class Digits(VisionDataset):
    name = "digits"

    def __init__(self, count, batch):
        self.data = ArrayLoader(np.arange(4.0 * count).reshape(count, 4), np.zeros(count), batch)


class Timed:
    """Gives its input back, as fast as it is told: `seconds` for every `at_once` samples."""

    def __init__(self, clock, seconds, at_once=1, numpy=False):
        self.clock, self.seconds, self.at_once, self.numpy, self.calls = clock, seconds, at_once, numpy, []

    def __call__(self, data):
        self.calls.append(len(data))
        self.clock[0] += self.seconds * -(-len(data) // self.at_once)
        return [data.copy() if self.numpy else data.asnumpy()]


def evaluation(monkeypatch, formal_seconds, at_once=1, count=100, batch=10, other_seconds=1.0, wanted=None):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    formal = Timed(clock, formal_seconds, at_once, True)
    others = [Timed(clock, other_seconds, numpy=k == 2) for k in range(3)]
    result = Evaluation(Digits(count, batch), 0, others[0], others[1], {"data": {"scale": 1.0, "target_bit": 31}}, [1.0],
                        others[2], formal, wanted)
    result.run(10**9, batch, lambda count: None)
    assert result.samples == count and not result.different and not result.formal_different
    return result.formal, formal.calls


def share(formal, others):
    return formal.seconds / (formal.seconds + others)


def test_a_tenth_of_the_time(monkeypatch):
    formal, calls = evaluation(monkeypatch, formal_seconds=3.0)
    assert 0.07 < share(formal, 300.0) <= 0.1 and formal.samples == sum(calls) == 11


def test_at_least_one_sample(monkeypatch):
    formal, calls = evaluation(monkeypatch, formal_seconds=1000.0)
    assert calls == [1] and formal.samples == 1


def test_no_more_than_enough(monkeypatch):
    formal, _ = evaluation(monkeypatch, formal_seconds=1e-6, count=1000)
    assert formal.samples == 100


@pytest.mark.parametrize("at_once, expected", [(1, [1] * 6), (4, [1, 4, 4, 4, 4, 4]), (64, [1, 64, 35])])
def test_all_cores_are_used(monkeypatch, at_once, expected):
    formal, calls = evaluation(monkeypatch, formal_seconds=10.0, at_once=at_once, count=200, batch=100)
    assert share(formal, 600.0) <= 0.1 and calls == expected


@pytest.mark.parametrize("wanted", [1, 7, 35, 10**6])
def test_as_many_as_asked_for_and_the_first_ones(monkeypatch, wanted):
    formal, calls = evaluation(monkeypatch, formal_seconds=1000.0, at_once=4, wanted=wanted)
    assert formal.samples == min(wanted, 100) and max(calls) <= 4


def test_compared_with_the_samples_they_belong_to(monkeypatch):
    """A wrong sample is found wherever it lies in its batch."""
    for wrong in (0, 3, 7):
        class Wrong(Timed):
            def __call__(self, data, wrong=wrong):
                outputs = super().__call__(data)
                outputs[0][data[:, 0] == 4 * wrong] += 1
                return outputs

        clock = [0.0]
        plain = Timed(clock, 1.0)
        result = Evaluation(Digits(10, 5), 0, plain, plain, {"data": {"scale": 1.0, "target_bit": 31}}, [1.0],
                            Timed(clock, 1.0, numpy=True), Wrong(clock, 0.0, 2, True), 10)
        result.run(10, 5, lambda count: None)
        assert result.formal_different == 1 and result.different == 0 and result.formal.samples == 10


def test_the_key(tmp_path):
    text = "[DEFAULT]\nModel_name = net\nInput_shape = (-1, 4)\n[CALIBRATION]\nDataset = mnist\n[EVALUATION]\n"
    path = tmp_path / "net.ini"
    for line, value in (("", None), ("Formal_samples = 5", 5)):
        path.write_text(text + line)
        assert config.load(path).evaluation.formal_samples == value
    path.write_text(text + "Formal_samples = 0")
    with pytest.raises(config.ConfigError, match="Formal_samples: found '0', expected an integer from 1"):
        config.load(path)
    assert "Formal_samples" in config.explain()


def test_compiled_says_how_many_at_once():
    class Model:
        input_shape = (7, 4)

    assert evaluate.Compiled(Model(), 0, 3).at_once == 21


@pytest.mark.parametrize("wanted, formal_seconds", [(None, 3.0), (None, 0.01), (40, 3.0), (1000, 0.5)])
def test_the_time_that_is_left(monkeypatch, wanted, formal_seconds):
    """From the first batch on; the reference kernels are foreseen whether they take a share or as many samples as asked for."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    models = [Timed(clock, 1.0), Timed(clock, 2.0), Timed(clock, 0.5, numpy=True), Timed(clock, formal_seconds, numpy=True)]
    result = Evaluation(Digits(200, 20), 0, models[0], models[1], {"data": {"scale": 1.0, "target_bit": 31}}, [1.0], *models[2:],
                        wanted)
    said = []
    result.run(10**9, 20, lambda count: said.append((clock[0], count, result.seconds_left(200))))
    assert said[0] == (0.0, 0, None) and sum(count for _, count, _ in said) == 200
    for now, _, left in said[1:]:
        assert left == pytest.approx(clock[0] - now, rel=0.12, abs=formal_seconds * 2)


@pytest.mark.parametrize("batches, batch, expected", [(10**9, 500, 10000), (3, 500, 1500), (10**9, 300, 10000)])
def test_the_samples_that_are_expected(batches, batch, expected):
    dataset = stages.DS_REG["mnist"]((batch, 1, 28, 28), str(ROOT / "model_zoo" / "data"))
    assert stages.sample_count(dataset, batches, batch) == expected


def test_the_samples_that_are_expected_of_a_users_data_set():
    dataset = Digits(95, 10)
    dataset.root_dir = dataset.is_train = None
    assert stages.sample_count(dataset, 10**9, 10) == 100 and stages.sample_count(dataset, 4, 10) == 40
    dataset.data = iter(())
    assert stages.sample_count(dataset, 4, 10) == 40
    endless = stages.DS_REG["stdrandom"]((5, 3))
    assert stages.sample_count(endless, 10**9, 5) == 5 * 10**9


def test_progress_counts_from_where_it_was_told_what_to_expect(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress = Progress("work")
    progress._start = progress._since = 0.0
    clock[0] = 100.0  # of preparations
    progress.expect(10, "parts")
    assert progress.text() == "work: 0/10 parts, 100 s"
    progress.update(2)
    clock[0] = 104.0
    assert progress.text() == "work: 2/10 parts, about 16 s left, 104 s"
    progress.expect(10, "parts", lambda: 7.0)
    assert progress.text() == "work: 0/10 parts, about 7 s left, 104 s"
