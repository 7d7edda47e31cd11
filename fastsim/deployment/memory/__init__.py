"""Memory of a GPU: weights, KV cache, and how many blocks fit."""
