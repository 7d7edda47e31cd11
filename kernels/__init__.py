"""The compiled simulation: its functions take arrays and change them in place. Import it as ``fastsim.kernels``.

Imported from the root of a checkout as ``kernels``, the same files would be compiled and cached under a second
name, and later runs would load machine code that belongs to the other name.
"""

if __name__ != "fastsim.kernels":
    raise ImportError("import fastsim.kernels, not kernels")
