"""For testers: a pytest plugin, fixtures for whole machines, and the contract that every backend keeps.

The plugin (entry point ``pytest11``) gives the fixtures of `pyvfio.testing.plugin`.  The contract suite is
``pyvfio.testing.contract``; run it against any backend::

    pytest --pyargs pyvfio.testing.contract --pyvfio-backend=kernel
"""
