"""Images and labels: sources, decoding, splits, audit."""

import lazy_loader

# The tables of settings in `terms` are read by the command line, which loads nothing for its help.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
