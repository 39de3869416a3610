"""The command `mrt` (also `python -m mrt`): can a network be quantized, quantize it, and where is accuracy lost?"""
import importlib
import sys

from mrt.commands.guard import guarded, importing

__all__ = ["main", "run_command"]

COMMANDS = {
    "check": ("mrt.pipeline.check", "list what keeps a network from being quantized, with a remedy for each node"),
    "run": ("mrt.commands.run", "prepare, calibrate, quantize, compile and evaluate as a configuration says"),
    "nodes": ("mrt.pipeline.nodes", "list the nodes of a prepared network, and where a configuration may name them"),
    "inspect": ("mrt.inspect.inspection", "compare the float and the integer network of a configuration node by node"),
}


@guarded
def run_command(name, argv, prog):
    """Run the one of COMMANDS called `name`; returns the exit status."""
    with importing():
        module = importlib.import_module(COMMANDS[name][0])  # only now: MXNet takes seconds to import
    return module.main(argv, prog=prog)


@guarded
def main(argv=None):
    """Run one of COMMANDS with the arguments behind its name; returns the exit status, 2 for wrong usage."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and argv[0] in COMMANDS:
        return run_command(argv[0], argv[1:], f"mrt {argv[0]}")
    if argv[:1] == ["--version"]:
        from mrt import __version__
        print(f"mrt {__version__}")
        return 0
    wanted = argv[:1] in (["-h"], ["--help"])
    said = {**{name: what for name, (_, what) in COMMANDS.items()}, "--version": "print the version"}
    lines = [f"  mrt {name:<10} {what}" for name, what in said.items()]
    text = "\n".join(["usage: mrt COMMAND ...", "", *lines, "", "mrt COMMAND --help says more"])
    if argv and not wanted:
        text = f"error: there is no command {argv[0]!r}\n{text}"
    print(text, file=sys.stdout if wanted else sys.stderr)
    return 0 if wanted else 2


if __name__ == "__main__":
    sys.exit(main())
