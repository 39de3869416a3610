"""python -m cvm_runtime info|run|gas|verify|bench DIR"""

import sys

from .cli import main

sys.exit(main())
