"""Measures operators on a GPU or on the CPU. Functions that need PyTorch import it themselves.

Import this package as ``fastsim.profiling``: at the root of a checkout its files also appear as ``profiling``, which is
the name of a module of Python 3.15.
"""

if __name__ != "fastsim.profiling":
    raise ImportError("import fastsim.profiling, not profiling")
