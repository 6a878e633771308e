"""What a classifier sees: where in an image the evidence lies, and which images are alike to it.

Nothing here trains, and no prediction depends on it.
"""
