"""Iterations, one by one and many at once: batches, groups of decodes, fast forward."""
