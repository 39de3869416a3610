"""Random numbers in place of data, where only the computing matters."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from mrt.datasets.base import Dataset, register_dataset
from mrt.mxnet_bridge import mx

__all__ = ["StdRandom"]


@register_dataset("stdrandom")
class StdRandom(Dataset):
    """Uniform random numbers 0..1 of any shape, without end; the same ones every time. No
    metric."""

    @classmethod
    def extent(cls, root: str | None = None, is_train: bool = False) -> tuple[float, ...]:
        return (math.inf,)

    def _load_data(self):
        self.data = self._batches()

    def _batches(self):
        random = np.random.RandomState(0)
        while True:
            yield (mx.nd.array(random.uniform(size=self.ishape).astype(np.float32)),
                   mx.nd.zeros((self.ishape[0],)))

    def metrics(self) -> None:
        return None

    def validate(self, metrics: Any, predict: Any, label: Any) -> str:
        return ""
