"""The command `mrt run`, which is `python -m mrt.main2` too."""
from __future__ import annotations

import sys

from mrt.commands.configured import run_configured
from mrt.commands.guard import guarded
from mrt.pipeline import config
from mrt.pipeline.stages import Run

__all__ = ["main"]


@guarded
def main(argv=None, prog="python -m mrt.main2"):
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 1 or argv[0].startswith("-"):
        wanted = argv[:1] in (["-h"], ["--help"])
        usage = f"usage: {prog} CONFIGURATION.ini"
        print(f"{usage}\n\nSections and keys (key, default, meaning):\n\n{config.explain()}" if wanted else usage,
              file=sys.stdout if wanted else sys.stderr)
        return 0 if wanted else 2
    return run_configured(argv[0], lambda settings: Run(settings).run())
