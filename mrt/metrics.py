"""Streaming accuracy: state is two counters, so memory does not grow with the number of samples."""
import numpy as np

__all__ = ["TopK"]


class TopK:
    """Share of samples whose class is among the `k` highest scores.

    With fewer than `k` classes every sample counts as right. Among equal scores the lower class index comes first, so
    integer scores, where ties are common, give the same figure everywhere.
    """

    def __init__(self, k):
        self.k, self.correct, self.total = k, 0, 0

    @property
    def name(self):
        return f"top{self.k}"

    @property
    def percent(self):
        """Accuracy so far in percent; nan before the first sample."""
        return 100.0 * self.correct / self.total if self.total else float("nan")

    def update(self, label, score):
        """label: (N,) class indices; score: (N, classes). Raises ValueError for other shapes."""
        label, score = np.asarray(label).reshape(-1), np.asarray(score)
        if score.ndim != 2 or score.shape[0] != label.shape[0]:
            raise ValueError(f"accuracy needs scores of shape ({label.shape[0]}, classes), found {score.shape}")
        best = np.argsort(-score.astype(np.float64), axis=1, kind="stable")[:, :self.k]
        self.correct += int((best == label[:, None]).any(axis=1).sum())
        self.total += label.shape[0]

    def __str__(self):
        return f"{self.name}={self.percent:.2f}%"
