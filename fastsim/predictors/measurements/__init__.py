"""Measured operator times, read from the file layouts of those who measured them."""
