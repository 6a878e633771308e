"""What a server shows of itself: its page, and what OpenAPI says of its requests."""

import base64
import hashlib
import html
from typing import Any

from tltoolkit._checks import listed
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.evaluation.page import asset, fill

_HERE = "tltoolkit.deploy"
_ROW = {
    "type": "object",
    "description": "As `tltoolkit predict --json` writes it; `error` is in place of the rest.",
    "required": ["format", "image"],
    "properties": {
        "format": {"type": "string"},
        "image": {"type": "string"},
        "label": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "An array where an image may have several.",
        },
        "probability": {"type": "number"},
        "abstained": {"type": "boolean", "description": "Not sure enough to answer."},
        "familiarity": {"type": "number", "description": "Only where the classifier knows it."},
        "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
        "error": {"type": "string"},
    },
}
_ANSWER = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["predictions"],
                "properties": {"predictions": {"type": "array", "items": _ROW}},
            }
        }
    }
}
_BYTES = {"type": "string", "format": "binary"}
_FILES = {
    "type": "object",
    "properties": {"image": {"type": "array", "items": _BYTES}},
    "required": ["image"],
}
# How the request is declared.
PREDICT: dict[str, Any] = {
    "summary": "Classify one or several images",
    "responses": {
        200: {"description": "One answer for each image, in their order", **_ANSWER},
        400: {"description": "A form without files, with too many or with other fields"},
        408: {"description": "The request came too slowly"},
        413: {"description": "The request is too large"},
        415: {"description": "A form of another kind"},
        422: {"description": "None of the images could be read", **_ANSWER},
        503: {"description": "Too many requests are waiting; see Retry-After"},
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _FILES},
                "image/*": {"schema": _BYTES},
                "application/octet-stream": {"schema": _BYTES},
            },
        }
    },
}


def page(predictor: Predictor) -> tuple[str, dict[str, str]]:
    """The page at `/`, and its headers: nothing that it loads is of another host."""
    style = asset("page.css") + asset("serve.css", _HERE)
    script = asset("serve.js", _HERE)
    names = predictor.class_names
    parts = {
        "style": style,
        "script": script,
        "classes": html.escape(f"{len(names)} classes: {listed(names)}."),
    }
    policy = (
        "default-src 'none'; connect-src 'self'; img-src blob: data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; "
        f"style-src {_hash(style)}; script-src {_hash(script)}"
    )
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return fill(asset("serve.html", _HERE), parts), headers


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
