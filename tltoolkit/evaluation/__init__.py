"""Exact evaluation in NumPy."""
