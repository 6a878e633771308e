"""Reading and writing files: those of others with care, ours whole or not at all.

Knows paths, bytes and links; what a run or a classifier keeps in its files stands elsewhere.
"""
