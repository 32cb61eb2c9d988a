"""pyvfio."""
