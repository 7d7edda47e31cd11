"""Columns of a replica's series over time, and of its sums."""

TICKS = 1048576.0  # per s
FIRST_SHIFT = 10  # a bin has 2 ** (FIRST_SHIFT + folds) ticks, at first a millisecond
BINS = 256

# Columns of Replicas.series: stages, requests and KV blocks, each times ticks; then tokens.
BUSY, RUNNING_SERIES, KV, PREFILL_TOKENS, DECODE_TOKENS, NUM_SERIES = range(6)

# Columns of Replicas.sums, over all members of all batches, where a member computes n tokens after p processed ones:
# sum of n * n, sum of n * p, and output tokens.
SQUARES, PAIRS, SAMPLED, NUM_SUMS = range(4)
