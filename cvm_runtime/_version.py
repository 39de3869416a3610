"""The version of MRT and of its runtime; every other place reads it from here."""

__version__ = "0.1.0"
