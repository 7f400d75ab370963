"""Ports of persistence and their twins. Synchronous: never awaits."""
