"""The nodes of a prepared network, by whose names a configuration chooses: which there are, and what it names wrongly.

    mrt nodes net.ini                            # also `mrt nodes mnist`: the model of a configuration, split at its Keys
    mrt nodes net.json net.params --shape 1,3,224,224
    mrt nodes net --shape 1,3,224,224            # as `mrt check` takes it; --keys as there

`python -m mrt.pipeline.nodes` is the same command. A line for each node: name, operator, shape of the first output, and
the keys that may name it.

Exit status: 0 done, 1 an error, 2 wrong usage.
"""
import sys

if __name__ == "__main__":  # before the imports below, which take seconds and may be interrupted
    from mrt.__main__ import run_command
    sys.exit(run_command("nodes", sys.argv[1:], "python -m mrt.pipeline.nodes"))

import argparse
import json
import os

from mrt.commands.guard import guarded, tell
from mrt.errors import UnsupportedError
from mrt.execute import infer_shapes
from mrt.files import model_files
from mrt.graph import Entry, Graph
from mrt.ops import is_layer
from mrt.passes.prepare import with_input
from mrt.pipeline import config
from mrt.pipeline.check import model_arguments, named_files
from mrt.pipeline.config import suggestion
from mrt.transformer import Model

__all__ = ["attribute_problems", "list_nodes", "main", "prepared", "problems"]



def prepared(settings):
    """The prepared model of a configuration."""
    shape = tuple(1 if n == -1 else n for n in settings.default.input_shape)
    return _prepared(Model.load(*model_files(settings.prefix)), shape, settings.split_model.keys,
                     settings.where("SPLIT_MODEL", "Keys"))


def _prepared(model, shape, keys, where):
    float_graph = model.graph
    try:
        model.prepare(shape, keys)
    except UnsupportedError:
        # A key that is misspelt leaves the whole network to be quantized, and this would be told instead.
        found = _key_problems(with_input(float_graph, shape), keys, where)
        if found:
            raise config.ConfigError(found) from None
        raise
    return model


def _key_problems(graph, keys, where):
    names = [node.name for node in graph.topological() if not node.is_variable]
    return [f"{where}: the network has no operator {key!r}{suggestion(key, names)}" for key in keys if key not in names]


def _below(graph, keys):
    """Names of the nodes that become integers: what the nodes named in `keys` need, everything without keys."""
    nodes = [graph.find(key) for key in keys]
    return {node.name for node in (Graph([Entry(n, 0) for n in nodes], graph.params) if keys else graph).topological()}


def list_nodes(graph, keys=()):
    """[{"name", "operator", "shape", "keys": [keys of a configuration that may name it]}], in topological order, of a prepared
    graph that is to be split at `keys`."""
    below, shapes, rows = _below(graph, keys), infer_shapes(graph), []
    for node in graph.topological():
        allowed = [] if node.is_variable else ["Keys"]
        if node.name in below:
            allowed += ["Thresholds"]
            allowed += [] if node.is_variable else ["Restore_name"]
            allowed += ["Operand_precision"] if is_layer(node) else []
        operator = "(parameter)" if graph.is_param(node) else "(input)" if node.is_variable else node.kind
        rows.append({"name": node.name, "operator": operator, "shape": list(shapes[node][0]), "keys": allowed})
    return rows


def problems(settings, graph, top=None):
    """What a configuration says of nodes that are not there, or not of the kind: a list of sentences.

    graph: the prepared network, whole, or only its lower half where that is all that was kept; then `top` is the upper one.
    """
    keys = settings.split_model.keys if top is None else ()
    unknown = _key_problems(graph, keys, settings.where("SPLIT_MODEL", "Keys"))
    if unknown:
        return unknown
    nodes = {node.name: node for node in graph.topological()}
    below, part, found = _below(graph, keys), settings.quantization, []

    def look(key, name, names, fits=lambda node: True, expected=""):
        where = settings.where("QUANTIZATION", key)
        if name not in nodes:
            found.append(f"{where}: the prepared network has no node{' or operator' * (key == 'Restore_name')} {name!r}"
                         f"{suggestion(name, names)} (`mrt nodes {settings.file}` lists them)")
        elif name not in below:
            found.append(f"{where}: {name!r} lies above the Keys, where nothing becomes integer")
        elif not fits(nodes[name]):
            found.append(f"{where}: {name!r} is {nodes[name].kind if nodes[name].op != 'null' else 'no operator'}, expected "
                         f"{expected}")

    operators = [name for name in nodes if not nodes[name].is_variable]
    kinds = {f"_OP_{nodes[name].kind}" for name in operators if name in below}
    layers = [name for name in operators if is_layer(nodes[name])]
    for name in part.thresholds:
        look("Thresholds", name, nodes)
    for name in part.operand_precision:
        look("Operand_precision", name, layers, lambda node: is_layer(node), "Convolution or FullyConnected")
    for name in part.restore_name:
        if name not in kinds and name != "_ALL_EXCEPT_":
            look("Restore_name", name, [*operators, *kinds], lambda node: not node.is_variable, "an operator")
    if settings.split_model.keys:
        found += _merge_problems(settings, top or graph, set() if top else below)
    return found


def _merge_problems(settings, graph, below):
    """What [MERGE_MODEL] names wrongly: `graph` holds the upper half, beside the nodes called in `below`."""
    merge, keys = settings.merge_model, settings.split_model.keys
    operators = {node.op for node in graph.topological() if not node.is_variable and node.name not in below}
    found = attribute_problems(operators, merge.attribute_deps, keys, settings.where("MERGE_MODEL", "Attribute_deps"))
    outputs, maps = [entry.node.name for entry in graph.outputs], merge.oscale_maps
    where = settings.where("MERGE_MODEL", "Oscale_maps")
    if sorted(maps) != sorted(outputs):
        found.append(f"{where}: given for {', '.join(maps)}, but the outputs are {', '.join(outputs)}")
    return found + [f"{where}: {name!r} is not one of the Keys {', '.join(keys)}" for name in maps.values()
                    if name != "None" and name not in keys]


def attribute_problems(operators, attribute_deps, keys, where):
    """What Attribute_deps names that is neither one of the `operators` of the upper half nor one of `keys`."""
    found = [f"{where}: the upper half has no operator {operator!r}; it has {', '.join(sorted(operators))}"
             for operator in attribute_deps if operator not in operators]
    return found + [f"{where}: {node!r} is not one of the Keys {', '.join(keys)}"
                    for attributes in attribute_deps.values() for node in attributes.values() if node not in keys]


# ---- the command -----------------------------------------------------------------------------------------------------

def _is_configuration(args):
    return args.params is None and (args.model.endswith(".ini") or not any(map(os.path.isfile, named_files(args.model, None))))


def _text(rows):
    shown = [(row["name"], row["operator"], "x".join(map(str, row["shape"])), " ".join(row["keys"])) for row in rows]
    shown.insert(0, ("node", "operator", "shape", "may be named in"))
    widths = [max(len(row[i]) for row in shown) for i in range(3)]
    return "\n".join("  ".join([*(f"{text:<{width}}" for text, width in zip(row, widths)), row[3]]).rstrip() for row in shown)


@guarded
def main(argv=None, prog="python -m mrt.pipeline.nodes"):
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model_arguments(parser, "a configuration, the symbol file, or the beginning of both file names")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    if not args.model:
        parser.error("name a configuration or a model")
    try:
        if _is_configuration(args):
            if args.shape or args.keys:
                parser.error("--shape and --keys go with a model; a configuration says both itself")
            settings = config.load(config.find(args.model))
            where, keys = settings.where("SPLIT_MODEL", "Keys"), settings.split_model.keys
            model = prepared(settings)
        else:
            where, keys = "--keys", args.keys
            model = _prepared(Model.load(*named_files(args.model, args.params)), args.shape, keys, where)
        unknown = _key_problems(model.graph, keys, where)
        if unknown:
            raise config.ConfigError(unknown)
    except config.ConfigError as error:
        for problem in error.problems:
            tell(problem)
        return 1
    rows = list_nodes(model.graph, keys)
    print(json.dumps(rows, indent=2) if args.json else _text(rows))
    return 0
