"""Operator times: measured, predicted by forests, and composed into the tables that a kernel reads."""
