"""The operators that a model's iteration consists of."""
