"""What can be wrong with a cluster: its description, or its launch."""

from __future__ import annotations


class ProfileError(ValueError):
    """A profile's name or option is unknown, or its value is out of range."""


class LaunchError(RuntimeError):
    """A cluster cannot be launched or reached, or must not be used."""
