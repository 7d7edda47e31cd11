"""One module per scheduling policy, each with the same three functions."""
