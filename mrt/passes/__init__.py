"""Transforms of whole graphs, one per file, each from Graph to Graph; `prepare` is the ordered list of them."""
