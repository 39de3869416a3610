"""Data sets for calibration and evaluation, one reader a file.

A new one is a file here, called like the data set, and its name in the line below.
"""
from mrt.datasets import cifar10, custom, mnist, quickdraw, stdrandom  # noqa: F401 (registers them)
