"""The command `mrt` (also `python -m mrt`): can a network be quantized, quantize it, and where is accuracy lost?"""
import importlib
import sys

__all__ = ["main"]

COMMANDS = {
    "check": ("mrt.check", "list what keeps a network from being quantized, with a remedy for each node"),
    "run": ("mrt.main2", "prepare, calibrate, quantize, compile and evaluate as a configuration says"),
    "inspect": ("mrt.inspection", "compare the float and the integer network of a configuration node by node"),
}


def main(argv=None):
    """Run one of COMMANDS with the arguments behind its name; returns the exit status, 2 for wrong usage."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and argv[0] in COMMANDS:
        sys.stdout.reconfigure(errors="backslashreplace")  # names of nodes may hold any character, the terminal may not
        module = importlib.import_module(COMMANDS[argv[0]][0])  # only now: MXNet takes seconds to import
        return module.main(argv[1:], prog=f"mrt {argv[0]}")
    wanted = argv[:1] in (["-h"], ["--help"])
    lines = [f"  mrt {name:<8} {what}" for name, (_, what) in COMMANDS.items()]
    text = "\n".join(["usage: mrt COMMAND ...", "", *lines, "", "mrt COMMAND --help says more"])
    if argv and not wanted:
        text = f"error: there is no command {argv[0]!r}\n{text}"
    print(text, file=sys.stdout if wanted else sys.stderr)
    return 0 if wanted else 2


if __name__ == "__main__":
    sys.exit(main())
