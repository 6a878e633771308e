"""What the arguments of predictions may be; loads nothing."""

from tltoolkit._checks import Integer, Number, Table

# How `views` and `pipeline` go together is looked at where they are used.
STREAM: Table = {"min_confidence": Number(0, 1), "batch_size": Integer(1), "views": Integer(1)}
