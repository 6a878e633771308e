"""Settings found by measuring: rate, batch size, amount of data, plan and backbone.

Names are imported when they are first used. A module here never has the name of a function,
because Python would put the module in its place.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batch_size": ["find_batch_size"],
        "choosing": ["choose_backbone"],
        "climbing": ["climb"],
        "curve": ["learning_curve"],
        "rate": ["find_lr"],
        "searching": ["search"],
    },
)
