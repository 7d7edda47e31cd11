"""Operators measured on a GPU or on the CPU. Import it as ``fastsim.profiling``; PyTorch is imported where it is used.

The root of a checkout has these files under a second name, which Python 3.15's own ``profiling`` shares.
"""

if __name__ != "fastsim.profiling":
    raise ImportError("import fastsim.profiling, not profiling")
