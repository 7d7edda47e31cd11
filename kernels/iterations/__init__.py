"""Iterations, one by one and many at once: batches, groups of decodes, and running ahead of decisions."""
