"""What the arguments of a classifier may be; loads nothing."""

from tltoolkit._checks import FLAG, SEED, Integer, OneOf, Table

# Pixels on a side from which a single batch would not fit any memory.
LARGEST = 4096
# Before the name of a preset of keras-hub, in place of a backbone's name.
HUB = "hub:"
FROM_LOGITS = OneOf("auto", True, False)

# `image_size` has a lower bound, too, which is the backbone's.
SETTINGS: Table = {
    "image_size": Integer(1, LARGEST),
    "multi_label": FLAG,
    "seed": SEED,
}
