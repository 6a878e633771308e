"""A classifier as one Keras graph: built, read, cut into blocks, frozen, changed.

Nothing here looks at images or trains.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["surgery"])
