"""Writes the seeds and the dictionary of the libFuzzer target; run as a program.

    python fuzz_corpus.py DIRECTORY
    fuzz_model -dict=DIRECTORY/dictionary -timeout=20 -rss_limit_mb=2048 DIRECTORY/corpus

The seeds are the golden operators, where there are golden files, and random
graphs, which cover every operator.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

from conftest import golden_cases, golden_dir  # noqa: E402
from graphs import OPERATORS  # noqa: E402
from random_operators import RandomGraph  # noqa: E402

WORDS = """nodes heads attrs arg_nodes node_row_ptr version postprocess op name inputs precision func_name num_inputs
num_outputs flatten_data op_attrs storage_id shape dltype device_index dtype list_str list_int list_shape null cvm_op data
int32 cvm_1.0.0 cvm_1.1.0 argmax detection True False None"""
ATTRIBUTES = """channels kernel_size strides padding dilation groups layout kernel_layout out_layout out_dtype use_bias units
pool_size ceil_mode scale method a_min a_max is_sign shift_bit axis keepdims exclude dtype repeats reps num_newaxis axes
begin end stride in_dim score_threshold max_output_size iou_threshold force_suppress top_k coord_start score_index id_index
return_indices invalid_to_bottom"""
NUMBERS = "-1 0 1 8 32 4096 16777216 1073741824 2147483647 2147483648 4294967295 9223372036854775807 -9223372036854775808"
TUPLES = ["(1, 1)", "()", "(-1,)", "(-4, -1, 0, -2)", "(-2,)", "(-3,)", "[0, 0, 0]", '{\\"axis\\": \\"-1\\"}', "], [", '": ["']


def write_dictionary(path: Path) -> None:
    words = [f'"{w}"' for w in WORDS.split()] + [*OPERATORS, "nn.relu", "add"] + ATTRIBUTES.split() + NUMBERS.split() + TUPLES
    quoted = (w.replace("\\", "\\\\").replace('"', '\\"') for w in words)
    binary = [r"\xb7\x9c\x04\x05\x4f\x8d\xe5\xf7", r"\x3f\xa1\xb4\x96\xf0\x40\x5e\xdd", r"\x00\x08\x01\x00", r"\x00\x20\x01\x00"]
    path.write_text("".join(f'"{w}"\n' for w in [*quoted, *binary]))


def write_seeds(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    seeds = [RandomGraph(k).build(6 + k % 12)[:2] for k in range(60)]
    golden = golden_dir()
    for case in golden_cases("ops"):
        seeds.append(tuple((golden / case["dir"] / name).read_bytes() for name in ("symbol", "params")))
    for k, (symbol, params) in enumerate(seeds):
        (directory / f"seed_{k}").write_bytes(symbol + b"\0" + params)
    return len(seeds)


def main(directory: Path) -> None:
    print(write_seeds(directory / "corpus"), "seeds")
    write_dictionary(directory / "dictionary")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
