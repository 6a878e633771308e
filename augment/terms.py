"""The names of fits, transforms and presets, and what settings may be; loads nothing."""

from tltoolkit._checks import SWITCH, Integer, Number, OneOf, Table

SQUASH = "squash"
FITS = (SQUASH, "crop", "pad")
# Names for the transforms of this package.
NAMED = {"global_contrast": "GlobalContrast", "local_contrast": "LocalContrast"}
PRESETS = ("none", "light", "medium", "strong", "trivial")

PREPARATION: Table = {"fit": OneOf(*FITS) | None}
PIPELINE: Table = {"image_size": Integer(1), "seed": Integer(0), **PREPARATION}
RESIZE: Table = {"size": Integer(1), "fit": OneOf(*FITS)}
PREVIEW: Table = {"n": Integer(1), "versions": Integer(1), "seed": Integer(0)}
# `steps_from` has to be less than the steps of an epoch.
BATCHES: Table = {
    "batch_size": Integer(1),
    "shuffle": SWITCH,
    "seed": Integer(0),
    "epochs_from": Integer(0),
    "augment_from": Integer(0),
    "workers": Integer(1) | None,
}
CONTRAST: Table = {
    "scale": Number(above=0),
    "offset": Number(),
    "regularizer": Number(above=0),
}
# Of them the odd ones.
WINDOWS = Integer(3)
PRESET: Table = {"name": OneOf(*PRESETS), "image_size": Integer(1), "seed": Integer(0)}
