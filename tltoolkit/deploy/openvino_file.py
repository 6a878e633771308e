"""A classifier as the .xml and .bin of OpenVINO."""

from pathlib import Path
from typing import Any

import openvino as ov

from tltoolkit.runtimes.card import KEY, Card


def write(model: Any, path: Path, card: Card, images: Any = None) -> tuple[bytes, bytes]:
    """The contents of both files, not yet sealed; arguments as those of `litert.write`."""
    model.export(str(path), format="openvino", verbose=False)
    made = ov.Core().read_model(str(path))
    made.set_rt_info(card.to_text(), KEY)
    # Under another name: the weights of the first are still being read.
    described = path.with_name("described.xml")
    ov.save_model(made, str(described), compress_to_fp16=card.quantize == "float16")
    return described.read_bytes(), described.with_suffix(".bin").read_bytes()
