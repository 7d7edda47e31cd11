"""Measured operator times, in the layouts of those who measured them."""
