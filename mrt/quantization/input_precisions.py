"""At how many bits operators take their inputs: `MRT.op_input_precs`."""
import difflib
from collections.abc import MutableMapping

from mrt.errors import MRTError
from mrt.ops import OPERATORS
from mrt.quantization.techniques import Setting

__all__ = ["INPUT_PRECISIONS", "InputPrecisions"]

INPUT_PRECISIONS = {name: operator.input_bits for name, operator in OPERATORS.items()
                    if operator.input_bits is not None}


class InputPrecisions(MutableMapping):
    """Operator name -> bits, for every operator that narrows its inputs (of Embedding: its table).
    Setting an entry changes what `quantize` does; MRTError for a precision that an operator cannot
    take, and for one of other operators, with what to set in its place. Deleting an entry returns to
    the default. `changed`: the entries that differ from it."""

    def __init__(self, values=()):
        self.changed = {}
        self.update(values)

    def __setitem__(self, name, bits):
        operator = OPERATORS.get(name)
        if operator is None:
            close = difflib.get_close_matches(str(name), self, 1)
            raise MRTError(f"op_input_precs has no operator {name!r}; " + (
                f"did you mean {close[0]!r}?" if close else f"it has {', '.join(self)}"))
        if operator.input_bits is None:
            raise MRTError(f"the precision of the input of {name} cannot be set (op_input_precs): "
                           f"{_instead(operator)}")
        rule = Setting("precision of the input", int, operator.input_bits, "", "MRT.op_input_precs",
                       low=2, high=operator.most_input_bits, section=None)
        self.changed[name] = rule.checked(bits, name)
        if self.changed[name] == operator.input_bits:
            del self.changed[name]

    def __getitem__(self, name):
        return {**INPUT_PRECISIONS, **self.changed}[name]

    def __delitem__(self, name):
        self[name] = INPUT_PRECISIONS[name]

    def __iter__(self):
        return iter(INPUT_PRECISIONS)

    def __len__(self):
        return len(INPUT_PRECISIONS)

    def __repr__(self):
        return f"InputPrecisions({dict(self)})"


def _instead(operator):
    """What to do where an operator has no precision of its inputs to set."""
    return operator.instead or (
        "it takes them as they come; the operators that compute with its output can have a precision"
        if operator.is_core else "Model.prepare makes other operators of it, which can have one")
