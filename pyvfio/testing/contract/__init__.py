"""The contract: what every backend does, as pytest modules.

Each test is written against the seam or the library and runs unchanged on the software machine and on a kernel, with
the same id.
"""
