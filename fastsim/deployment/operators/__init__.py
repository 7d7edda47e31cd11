"""The operators that a decoder runs in one iteration."""
