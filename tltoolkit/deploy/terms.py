"""What the arguments of an export may be; loads nothing."""

from tltoolkit._checks import FLAG, OneOf, Table

# Format -> what can be done to its numbers.
FORMATS: dict[str, tuple[str | None, ...]] = {
    "litert": (None, "float16", "int8"),
    "onnx": (None, "float16"),
    "openvino": (None, "float16"),
    "saved_model": (None,),
}
EXPORT: Table = {
    "format": OneOf(*FORMATS, None),
    "quantize": OneOf("float16", "int8", None),
    "strict": FLAG,
}
