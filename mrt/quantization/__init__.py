"""From a prepared float graph to integers."""
