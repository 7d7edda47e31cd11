"""The memory of a GPU: weights, KV cache, and how many KV blocks fit."""
