"""A network as plain Python objects: nodes that point at their inputs, and numpy parameters.

    for node in graph.topological(): ...
    graph = graph.rewrite(lambda node, inputs: node.with_inputs(inputs))

A graph is never changed in place; passes make new graphs from old ones. `mrt.frontend` reads graphs from files, `mrt.execute`
runs them.
"""
import ast
import logging
from collections import namedtuple

from mrt.errors import ModelError

__all__ = ["VARIABLE", "Entry", "Graph", "Names", "Node"]

Entry = namedtuple("Entry", "node index")
Entry.__doc__ = "Output number `index` of `node`."

VARIABLE = "null"


class Node:
    """One operator or variable. `attrs` maps text to text as in MXNet; `inputs` is a tuple of Entry."""

    __slots__ = ("attrs", "inputs", "name", "op")

    def __init__(self, op, name, inputs=(), attrs=None):
        self.op = op
        self.name = name
        self.inputs = tuple(inputs)
        self.attrs = {key: str(value) for key, value in (attrs or {}).items()}

    def __repr__(self):
        return f"{self.op} {self.name}({', '.join(e.node.name for e in self.inputs)})"

    def with_inputs(self, inputs):
        """This node on other inputs; itself when nothing changes."""
        inputs = tuple(inputs)
        return self if inputs == self.inputs else Node(self.op, self.name, inputs, self.attrs)

    @property
    def is_variable(self):
        return self.op == VARIABLE

    @property
    def kind(self):
        """The operator a reader means: `op_type` for MXNet's Custom nodes, else the operator."""
        return self.attrs.get("op_type", self.op) if self.op == "Custom" else self.op

    def _value(self, key, default, accept, expected):
        text = self.attrs.get(key)
        if text is None:
            return default
        value = _literal(text)
        if not accept(value):
            raise ModelError(f"node {self.name} ({self.kind}): attribute {key}={text!r}, expected {expected}")
        return value

    def int(self, key, default=None):
        return self._value(key, default, lambda v: isinstance(v, int), "an integer")

    def float(self, key, default=None):
        """The number, which may be infinite or not a number: `inf`, `-inf`, `nan` as MXNet writes them."""
        return self._value(key, default, lambda v: isinstance(v, (int, float)), "a number")

    def bool(self, key, default=False):
        return bool(self._value(key, default, lambda v: v in (True, False, 0, 1), "True or False"))

    def str(self, key, default=""):
        return self.attrs.get(key, default)

    def tuple(self, key, default=()):
        value = self._value(key, default, lambda v: isinstance(v, (int, tuple, list)), "a tuple of integers")
        return (value,) if isinstance(value, int) else tuple(value)


class Names:
    """Gives names no node of the graph has yet, in MRT's scheme `mrt_<pass>_<hint>_<k>`."""

    def __init__(self, taken):
        self.taken = set(taken)

    def fresh(self, stage, hint):
        return self.numbered(f"mrt_{stage}_{hint}")

    def numbered(self, name):
        k = 0
        while f"{name}_{k}" in self.taken:
            k += 1
        return self.take(f"{name}_{k}")

    def take(self, name):
        self.taken.add(name)
        return name


class Graph:
    """`outputs`: list of Entry; `params`: name -> numpy array, in topological order; a variable without one is an input."""

    def __init__(self, outputs, params):
        self.outputs = list(outputs)
        self._nodes = None
        self.params = {node.name: params[node.name] for node in self.topological() if node.is_variable and node.name in params}

    # --- reading the structure

    def topological(self):
        """All nodes, inputs before users: depth first from the outputs, left to right, so the order is reproducible."""
        if self._nodes is None:
            order, seen = [], set()
            stack = [(entry.node, False) for entry in reversed(self.outputs)]
            while stack:
                node, inputs_done = stack.pop()
                if inputs_done:
                    order.append(node)
                elif node not in seen:
                    seen.add(node)
                    stack.append((node, True))
                    stack.extend((e.node, False) for e in reversed(node.inputs) if e.node not in seen)
            self._nodes = order
        return self._nodes

    def inputs(self):
        return [node for node in self.topological() if node.is_variable and node.name not in self.params]

    def is_param(self, node):
        return node.is_variable and node.name in self.params

    def find(self, name):
        """The node of that name, or None."""
        return next((node for node in self.topological() if node.name == name), None)

    def consumers(self):
        """node -> list of the nodes that read any of its outputs (None stands for the graph's own outputs)."""
        users = {node: [] for node in self.topological()}
        for node in self.topological():
            for entry in node.inputs:
                users[entry.node].append(node)
        for entry in self.outputs:
            users[entry.node].append(None)
        return users

    def check_names(self):
        """Every table of MRT is keyed by node name: a name given twice is an error."""
        seen, twice = set(), []
        for node in self.topological():
            if node.name in seen and node.name not in twice:
                twice.append(node.name)
            seen.add(node.name)
        if twice:
            raise ModelError(f"node names must be unique; given more than once: {', '.join(twice)}. Rename them")

    def with_unique_names(self):
        """The same graph with a name of its own for every node: a gluon block that calls one activation twice gives both calls
        one name. The first keeps it, later ones become `name_0`, `name_1`, ...; names given once stay. Variables of one name are
        one variable, and keep it whatever else is called so."""
        names = Names(node.name for node in self.topological())
        variables, used, renamed = {}, {node.name for node in self.topological() if node.is_variable}, []

        def visit(node, inputs):
            if node.is_variable:
                return variables.setdefault(node.name, node)
            if node.name not in used:
                used.add(node.name)
                return node.with_inputs(inputs)
            renamed.append((node.name, names.numbered(node.name)))
            return Node(node.op, renamed[-1][1], inputs, node.attrs)

        graph = self.rewrite(visit)
        if renamed:
            logging.getLogger("mrt.graph").warning(
                "node names must be unique; given more than once and renamed: %s",
                ", ".join(f"{old} -> {new}" for old, new in renamed))
        return graph

    # --- changing it

    def rewrite(self, visit, params=None):
        """A new graph. `visit(node, inputs)` sees every node in topological order, `inputs` being the entries that replace
        its own, and returns what takes its place: a Node, an Entry (for output 0), or a list with an Entry per output.
        `params` are the parameters of the new graph, the same by default; the visitor may add to that dictionary."""
        done = {}
        for node in self.topological():
            done[node] = visit(node, tuple(_lookup(done, e) for e in node.inputs))
        return Graph([_lookup(done, e) for e in self.outputs], self.params if params is None else params)


def _literal(text):
    """The value of an attribute's text, or the text where it is none of Python's literals, infinity, or not a number."""
    for read in (ast.literal_eval, float):
        try:
            return read({"true": "True", "false": "False"}.get(text, text).replace("L", ""))
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the latter for what is nested too deeply
            continue
    return text


def _lookup(done, entry):
    result = done[entry.node]
    if isinstance(result, Node):
        return Entry(result, entry.index)
    if isinstance(result, Entry):
        if entry.index != 0:
            raise ModelError(f"output {entry.index} of {entry.node.name} ({entry.node.kind}) is used, but only its first "
                             "output exists after rewriting")
        return result
    return result[entry.index]
