"""Trained classifiers: saved, checked, loaded, asked for predictions; files of other origin.

Nothing here trains, and no code that a file holds is run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["foreign"])
