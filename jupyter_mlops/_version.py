"""The one place of the version: Python's build and the labextension's both read it."""

__version__ = "0.1.0"
