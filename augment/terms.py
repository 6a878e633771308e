"""The names of fits, transforms and presets, and what settings may be; loads nothing."""

from tltoolkit._checks import Integer, OneOf, Table

SQUASH = "squash"
FITS = (SQUASH, "crop", "pad")
# Names for the transforms of this package.
NAMED = {"global_contrast": "GlobalContrast", "local_contrast": "LocalContrast"}
PRESETS = ("none", "light", "medium", "strong", "trivial")

PREPARATION: Table = {"fit": OneOf(*FITS) | None}
PIPELINE: Table = {"image_size": Integer(1), "seed": Integer(0), **PREPARATION}
PRESET: Table = {"name": OneOf(*PRESETS), "image_size": Integer(1), "seed": Integer(0)}
