"""Class imbalance: priors, weights, resampling, adjustment, on plain arrays of labels.

Nothing here needs TensorFlow. Labels are class numbers (N,), one-hot or soft rows (N, C) that sum
to 1, or, with `multi_label=True`, zeros and ones (N, C). The losses are in `tltoolkit.losses`.
"""

import lazy_loader

# The tables of settings in `terms` are read by the command line, which loads nothing for its help.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
