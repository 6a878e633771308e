"""report.html: one file that opens anywhere, without a network."""

import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tltoolkit.evaluation.page_data import page_data
from tltoolkit.evaluation.text import plain, write

if TYPE_CHECKING:
    from tltoolkit.evaluation.report import Report

_MARK = "tltoolkit report page"


def save_page(report: "Report", directory: Path, title: str, run: Mapping[str, Any] | None) -> Path:
    """Write report.html; a file of that name that is no report page is refused.

    Raises:
        ImportError: without plotly.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError("report pages need plotly: pip install 'tltoolkit[report]'") from error
    path = directory / "report.html"
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace")[:500]:
        raise FileExistsError(f"{path} exists and is not a report page: choose another directory")
    parts = {
        "mark": _MARK,
        "title": html.escape(title),
        "style": _asset("page.css"),
        "plotly": get_plotlyjs(),
        "data": json_for_script(page_data(report, title, run)),
        "script": _asset("page.js"),
    }
    write(path, fill(_asset("page.html"), parts))
    return path


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Replace every {{name}} in one pass, so that a part never fills a mark of another."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def json_for_script(value: Any) -> str:
    """JSON that no text inside can end or reopen the script element around it."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _asset(name: str) -> str:
    return files("tltoolkit.evaluation").joinpath(name).read_text(encoding="utf-8")
