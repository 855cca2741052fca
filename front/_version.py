"""The version that is installed."""

from importlib.metadata import version

__version__ = version("twinlines")
"""Version of the package, as pip knows it."""
