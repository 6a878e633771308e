"""What a classifier sees: where in an image the evidence for its answer lies.

Nothing here trains, and no prediction depends on it.
"""
