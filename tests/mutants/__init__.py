"""Mutants: one deliberate fault each, and the tests that must notice it."""
