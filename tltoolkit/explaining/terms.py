"""What the arguments of explanations may be; loads nothing."""

from tltoolkit._checks import FLAG, Integer, OneOf, Table

CAM, GRAD_CAM, OCCLUSION = METHODS = ("cam", "grad_cam", "occlusion")
EXPLAIN: Table = {"method": OneOf(*METHODS), "by_block": FLAG, "batch_size": Integer(1)}
