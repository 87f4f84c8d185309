"""Historic techniques, as NumPy networks were written before: to read, to test and to compare, not to train with.

Nothing here is part of the package. Arrays are (N, C, H, W) in C order, as in the reports that `docs/systems.md` is
about; every function equals its operation in `stridenet.kernels.loops`, by test.
"""
