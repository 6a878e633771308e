"""What to ask when training does not work: of the network, of its gradients, of the data.

Names are imported when they are first used. A module here never has the name of a function,
because Python would put the module in its place.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "derivatives": ["gradients"],
        "first_batch": ["data"],
        "overfitting": ["capacity"],
    },
)
