"""Fits coefficients of engines on measured runs."""
