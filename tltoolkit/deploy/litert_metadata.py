"""The metadata of a .tflite file that Android's Task Library and MediaPipe read.

A flatbuffer by the schema metadata_schema.fbs of TensorFlow Lite, of which the few tables that an
image classifier needs are written here: no package that is maintained writes it.
"""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

# The name of its entry among the metadata of a model, and what its content begins with.
ENTRY = "TFLITE_METADATA"
IDENTIFIER = b"M001"
LABELS = "labels.txt"
# Numbers of the schema, in one byte each: the union's of ImageProperties, RGB, the union's of
# NormalizationOptions, and of files with the labels of an output's axis.
IMAGE, RGB, NORMALISATION, AXIS_LABELS = b"\2", b"\1", b"\1", b"\2"
# The version of the schema's reader that all of these tables need.
PARSER = "1.0.0"

# A table is a tuple of its fields by their numbers, a vector a list, an integer one of 32 bits,
# a single byte one of 8; None is a field left out.
Table = tuple[Any, ...]


def metadata(image_size: int, familiarity: bool = False) -> bytes:
    """That of a classifier of pixels 0..255, whose labels are in the associated file `LABELS`.

    Args:
        image_size: Side of the images.
        familiarity: Whether a second output gives the distance from the images of training.
    """
    import flatbuffers

    pixels = (
        "image",
        "Pixels of 0..255, RGB; normalised inside the model.",
        None,
        (IMAGE, (RGB, (image_size, image_size))),
        # The mean and the deviation that a float model must state: nothing is left to be done.
        [(NORMALISATION, ([0.0], [1.0]))],
        ([255.0], [0.0]),
    )
    labels = (LABELS, "Names of the classes.", AXIS_LABELS)
    scores = ("probability", "Of each class.", None, None, None, ([1.0], [0.0]), [labels])
    distance = ("distance", "From the images of training, >= 0.")
    outputs = [scores, distance] if familiarity else [scores]
    graph = (None, None, [pixels], outputs)
    root = ("Image classifier", "Exported by tltoolkit.", None, [graph], None, None, None, PARSER)
    builder = flatbuffers.Builder()
    builder.Finish(_table(builder, root), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def with_labels(content: bytes, class_names: Sequence[str]) -> bytes:
    """A .tflite file with the associated file of its labels, which is a ZIP archive behind it."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        # A date of its own would make two exports of one model differ.
        member = zipfile.ZipInfo(LABELS)
        # One name a line, whatever is in it.
        archive.writestr(member, "".join(f"{' '.join(name.split())}\n" for name in class_names))
    return file.getvalue()


def _table(builder: Any, fields: Table) -> Any:
    # Whatever a table points to is written before it.
    made = [_made(builder, value) for value in fields]
    builder.StartObject(len(fields))
    for number, (value, place) in enumerate(zip(fields, made, strict=True)):
        if isinstance(value, bytes):
            builder.PrependUint8Slot(number, value[0], 0)
        elif isinstance(value, int):
            builder.PrependUint32Slot(number, value, 0)
        elif place is not None:
            builder.PrependUOffsetTRelativeSlot(number, place, 0)
    return builder.EndObject()


def _made(builder: Any, value: Any) -> Any:
    """Where a text, table or vector was written; None for what stands in its table itself."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, tuple):
        return _table(builder, value)
    if not isinstance(value, list):
        return None
    floats = isinstance(value[0], float)
    places = value if floats else [_made(builder, one) for one in value]
    # Each of four bytes; a builder writes from the end.
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        (builder.PrependFloat32 if floats else builder.PrependUOffsetTRelative)(place)
    return builder.EndVector()
