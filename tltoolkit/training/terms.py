"""What the arguments of a training may be; loads nothing."""

from tltoolkit._checks import Integer, Number, OneOf, Table

NOTHING, BARS, LINES = 0, 1, 2
VERBOSE = OneOf("auto", NOTHING, BARS, LINES)
SWEEP, LADDER = "sweep", "ladder"
BATCH_SIZE = Integer(1)
STORAGE: Table = {"memory_gb": Number(above=0), "dtype": OneOf("float32", "float16")}
