"""What the arguments of exporting and serving may be; loads nothing."""

from pathlib import Path

from tltoolkit._checks import FLAG, Instance, Integer, Number, OneOf, Row, Table

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
BENCHMARK: Table = {
    "classifiers": Row(Instance((str, Path), "a path"), "a row of paths"),
    "repeats": Integer(1),
}
HOST, PORT = "127.0.0.1", 8000
SERVE: Table = {
    "host": Instance(str, "a name or address of this machine"),
    "port": Integer(0, 65535),
}
LIMITS: Table = {
    "batch_size": Integer(1),
    "wait": Number(0),
    "images": Integer(1),
    "bytes": Integer(1),
    "requests": Integer(1),
    "reading": Number(above=0),
    "answering": Number(above=0),
}
