"""A configuration given on the command line: loaded, checked, and its problems told a line each."""
from __future__ import annotations

import logging
import traceback

from mrt.commands.guard import tell
from mrt.datasets.base import DS_REG
from mrt.errors import MRTError
from mrt.pipeline import config
from mrt.utils import log_init

__all__ = ["SHOWN_PROBLEMS", "run_configured"]

SHOWN_PROBLEMS = 50


def run_configured(path, action):
    """Load and check a configuration and call `action(settings)`; problems of the configuration end as a line each on stderr.
    Returns the exit status, 0 or 1; other errors are for `guard.guarded`."""
    settings = None
    try:
        found = config.find(path)
        if found != path:
            print(f"configuration {found}", flush=True)
        settings = config.load(found)
        log_init(settings.default.verbosity)
        config.check(settings)
        action(settings)
        return 0
    except config.ConfigError as error:
        for problem in error.problems[:SHOWN_PROBLEMS]:
            tell(problem)
        if len(error.problems) > SHOWN_PROBLEMS:
            tell(f"and {len(error.problems) - SHOWN_PROBLEMS} more problems of {path}")
    except SystemExit as stop:
        tell(f"the data set or another module ended the run with sys.exit({stop.code!r})")
    except (MRTError, OSError):
        raise
    except Exception as error:
        if settings and settings.default.verbosity == logging.DEBUG:
            traceback.print_exc()
        place = _in_a_users_data_set(error)
        if not place:
            raise
        tell(f"{type(error).__name__}: {error}, raised by the data set's own code at {place}")
    return 1


def _in_a_users_data_set(error):
    """'file:line' of the innermost call in a module with data sets that are not MRT's, None when there is none."""
    modules = {cls.__module__ for cls in DS_REG.values()
               if not cls.__module__.startswith("mrt.datasets.")}
    places = [f"{frame.f_code.co_filename}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)
              if frame.f_globals.get("__name__") in modules]
    return places[-1] if places else None
