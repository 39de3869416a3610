#!/usr/bin/env python3
"""Makes the networks of cpu.py: MXNet checkpoints, quantized by MRT, as CVM files.

    python tests/bench/cpu_models.py PREFIX FOLDER BATCH
"""
import os
import sys
from pathlib import Path

import numpy as np
from cpu_worker import IMAGE, ROOT, noise

sys.path.insert(0, str(ROOT))

from mrt.files import atomic_path
from mrt.mxnet_bridge import mx
from mrt.transformer import Model

CALIBRATION = 16


def make(prefix, folder, batch):
    """Quantize PREFIX-symbol.json and PREFIX-0000.params with MRT's defaults and 8-bit outputs, calibrated on 16 noise images,
    and write `symbol`, `params` and `data.npy` (int32 codes of the first `batch` of the images) into `folder`."""
    model = Model.load(f"{prefix}-symbol.json", f"{prefix}-0000.params")
    model.prepare((1,) + IMAGE)
    mrt = model.get_mrt()
    mrt.set_data(mx.nd.array(noise(CALIBRATION)))
    mrt.calibrate()
    mrt.set_output_prec(8)
    quantized = mrt.quantize()
    info = mrt.get_inputs_ext()["data"]
    limit = 2 ** (info["target_bit"] - 1) - 1
    codes = np.clip(np.rint(noise(batch).astype(np.float64) * info["scale"]), -limit, limit).astype(np.int32)
    folder = Path(folder)
    os.makedirs(folder, exist_ok=True)
    with atomic_path(folder / "data.npy") as path:
        np.save(path, codes)
    quantized.to_cvm(folder.name, str(folder.parent), (batch,) + IMAGE)  # `symbol`, written last, says that all is there


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2], int(sys.argv[3]))
