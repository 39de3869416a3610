"""Can this network be quantized? Every node that cannot is listed, with the reason and a remedy.

    mrt check net.json net.params --shape 1,3,224,224
    mrt check net --shape 1,3,224,224      # net.json, net.params; or net-symbol.json, net-0000.params as MXNet exports them
    mrt check net --keys box,score         # only what the nodes box and score need
    mrt check --operators                  # the table of supported operators, as markdown

`python -m mrt.pipeline.check` is the same command.

Exit status: 0 it can, 1 it cannot (or cannot be read), 2 wrong usage.
"""
import sys

if __name__ == "__main__":  # before the imports below, which take seconds and may be interrupted
    from mrt.__main__ import run_command
    sys.exit(run_command("check", sys.argv[1:], "python -m mrt.pipeline.check"))

import argparse
import json
import math
from collections import Counter

from mrt.commands.guard import guarded, tell
from mrt.errors import ModelError, MRTError, shortened
from mrt.files import model_files
from mrt.frontend.mxnet import load
from mrt.ops import OPERATORS, integer
from mrt.ops.refused import Refused
from mrt.passes.heads import without_losses
from mrt.passes.prepare import known_shapes, prepare, with_input
from mrt.passes.validate import names_above, unsupported
from mrt.pipeline.config import MAX_ELEMENTS

__all__ = ["findings", "main", "model_arguments", "named_files", "operator_table"]


def findings(graph, input_shape=None, keys=()):
    """List of {"operator", "node", "reason", "remedy"} for every node that cannot be quantized. `input_shape` and
    `keys` as for Model.prepare. ModelError when names, inputs or shapes are wrong."""
    graph = without_losses(graph)
    named = with_input(graph, input_shape, keys)
    unknown = [key for key in keys if named.find(key) is None]
    if unknown:
        raise ModelError(f"the network has no node {', '.join(unknown)} to be split at")
    found = []
    above = names_above(named, keys)
    for node, text in unsupported(named, known_shapes(named)):
        if node.name in above:
            continue
        reason, _, remedy = text.rpartition("; ")
        found.append({"operator": node.kind, "node": node.name, "reason": reason, "remedy": remedy})
    if not found:
        prepare(graph, input_shape, keys)
    return found


def operator_table():
    """Markdown: the names of the operators, what they are, and whether they become integers themselves (core), as others
    (rewritten), or not at all (refused)."""
    names = {}
    for name, operator in OPERATORS.items():
        if type(operator).__module__ != integer.__name__:
            names.setdefault(type(operator), []).append(name)
    rows = []
    for cls, group in names.items():
        how = "refused" if cls is Refused else "core" if OPERATORS[group[0]].is_core else "rewritten"
        what = " ".join(cls.__doc__.split("\n\n")[0].split()).replace("|", "\\|")
        rows.append((", ".join(f"`{name}`" for name in group), what, how))
    rows.sort(key=lambda row: (row[2] == "refused", row[0].lower()))
    return "\n".join("| " + " | ".join(row) + " |" for row in [("operator", "what it is", "how"), ("---",) * 3, *rows]) + "\n"


def named_files(model, params):
    """(symbol file, params file) that a user means by the one or two words of the command line."""
    if params:
        return model, params
    if model.endswith(".json"):
        stem = model[:-len(".json")]
        return model, f"{stem[:-len('-symbol')]}-0000.params" if stem.endswith("-symbol") else f"{stem}.params"
    return model_files(model)


def _shape(text):
    try:
        shape = tuple(int(extent) for extent in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1 or math.prod(shape) > MAX_ELEMENTS:
        raise argparse.ArgumentTypeError(f"found {shortened(repr(text))}, expected the extents of the input between commas, the "
                                         "batch among them, such as 1,1,28,28")
    return shape


def _names(text):
    names = tuple(text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"found {shortened(repr(text))}, expected names of nodes between commas")
    return names


def model_arguments(parser, model):
    """Add the arguments that name a model; `model` is the help of the first."""
    parser.add_argument("model", nargs="?", help=model)
    parser.add_argument("params", nargs="?", help="the params file, unless it is called like the symbol file")
    parser.add_argument("--shape", type=_shape, metavar="N,C,H,W", help="shape of the input, unless the symbol declares it")
    parser.add_argument("--keys", type=_names, default=(), metavar="NODE,..",
                        help="nodes where the network will be split: only what they need is looked at")


def _print(graph, found, keys):
    if not found:
        above = names_above(graph, keys)
        counts = Counter(node.kind for node in graph.topological() if not node.is_variable and node.name not in above)
        where = f" up to {', '.join(keys)}" if above else ""
        kinds = ", ".join(f"{n} {op}" for op, n in sorted(counts.items()))
        print(f"can be quantized{where}: {sum(counts.values())} nodes, {kinds}")
        return
    print(f"cannot be quantized: {len(found)} node{'s' if len(found) > 1 else ''}")
    for item in found:
        print(f"  {item['node']} ({item['operator']}): {item['reason']}\n    remedy: {item['remedy']}")


@guarded
def main(argv=None, prog="python -m mrt.pipeline.check"):
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    model_arguments(parser, "the symbol file, or the beginning of both file names")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--operators", action="store_true", help="print the table of supported operators and exit")
    args = parser.parse_args(argv)
    if args.operators:
        print(operator_table(), end="")
        return 0
    if not args.model:
        parser.error("name a model, or ask for --operators")
    try:
        graph = load(*named_files(args.model, args.params))
        found = findings(graph, args.shape, args.keys)
    except MRTError as error:
        if args.json:
            print(json.dumps({"supported": False, "error": str(error)}))
        else:
            tell(str(error))
        return 1
    if args.json:
        print(json.dumps({"supported": not found, "unsupported": found}, indent=2))
    else:
        _print(graph, found, args.keys)
    return 1 if found else 0
