"""What scripts take from here, and the command `python -m mrt.main2 path/to/net.ini`.

The same as `mrt run path/to/net.ini`: from a configuration to a compiled integer model and its
accuracy. Seven stages: prepare, split, calibrate, quantize, merge, compile, evaluate. The whole
configuration is checked before the first one. Exit status: 0 done, 1 an error (one line each on
stderr), 2 wrong usage, 130 interrupted.
"""
import sys

if __name__ == "__main__":  # before the imports below, which take seconds and may be interrupted
    from mrt.__main__ import run_command
    sys.exit(run_command("run", sys.argv[1:], "python -m mrt.main2"))

from mrt.commands.run import main
from mrt.pipeline.stages import Run, batch_axis, set_batch

__all__ = ["Run", "batch_axis", "main", "set_batch"]
