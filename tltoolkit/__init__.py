"""Transfer learning for images with Keras 3.

Every name is imported when it is first used, so that `import tltoolkit` loads neither
TensorFlow nor Keras.
"""

import lazy_loader

__version__ = "0.1.0"

_ROOMS = (
    "augment",
    "backbones",
    "callbacks",
    "check",
    "data",
    "evaluation",
    "imbalance",
    "losses",
    "plans",
    "tune",
)
# Where a public name is written; `foreign` and `surgery` are modules in rooms of others.
_NAMES = {
    "artifacts": ["foreign"],
    "artifacts.artifact": ["save"],
    "artifacts.evaluating": ["evaluate"],
    "artifacts.growing": ["add_class", "update"],
    "artifacts.loading": ["load"],
    "deploy.benchmark": ["benchmark"],
    "deploy.exporting": ["export"],
    "evaluation": ["Report"],
    "explaining.embedding": ["embed"],
    "explaining.maps": ["explain"],
    "imbalance": ["Imbalance"],
    "model": ["surgery"],
    "model.classifier": ["blocks", "build_classifier", "freeze", "preparation_of"],
    "model.head": ["Head"],
    "plans.stages": ["Plan", "Stage"],
    "runs.cross_validation": ["cross_validate"],
    "runs.fine_tune": ["fine_tune"],
    "runs.refitting": ["refit"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, _ROOMS, _NAMES)
