"""Files of other tools, read as graphs."""
