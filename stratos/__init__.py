"""Stratos: a private, boundary-aware data layer for AT Protocol."""

__version__ = "0.1.0"
