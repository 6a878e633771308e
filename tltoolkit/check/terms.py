"""What the arguments of these functions may be; loads nothing."""

from tltoolkit._checks import SEED, Integer, Table

# Of `samples` there are at most the training images, too.
CAPACITY: Table = {"samples": Integer(2), "steps": Integer(10), "seed": SEED}
