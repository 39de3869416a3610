"""From a configuration to a compiled model and its accuracy: what the commands do, as functions."""
