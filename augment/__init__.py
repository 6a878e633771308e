"""Image augmentation and feeding that need nothing else of the toolkit."""

if __name__ != "tltoolkit.augment":
    # A second copy under the bare name would register its classes with Keras twice.
    raise ImportError("import it as `tltoolkit.augment`: pip install tltoolkit")

import lazy_loader

# The tables of settings in `terms` are read by the command line, which loads nothing for its help.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
