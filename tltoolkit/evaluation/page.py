"""report.html: one file that opens anywhere, without a network."""

import html
import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.evaluation.page_data import Maps, page_data
from tltoolkit.evaluation.results import Results
from tltoolkit.evaluation.text import is_report, plain
from tltoolkit.files import reading, writing

_MARK = "tltoolkit report page"  # at the top of the template, so that we know our own files


def is_page(path: Path) -> bool:
    """Whether a file is a report.html."""
    return writing.marked(path, _MARK.encode(), within=500)


def check_directory(directory: str | Path, page: bool | None) -> Path:
    """The directory, if a report can be written into it; arguments and errors as `Report.save`."""
    target = reading.local(directory)
    # A link that leads nowhere is in the way too, and `exists` would not see it.
    if os.path.lexists(target) and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; name a folder for the report")
    writing.check_room(target)
    writing.free(target / "report.json", is_report, "a report")
    if has_page(page):
        writing.free(target / "report.html", is_page, "a report page")
    return target


def has_page(page: bool | None) -> bool:
    """Whether a report has a page; None leaves it to whether plotly is installed.

    Raises:
        ImportError: It is to have one, without plotly.
    """
    if not page:
        return page is None and find_spec("plotly") is not None
    with _checks.extra("report pages need plotly", "report"):
        # Imported, not only found: a broken one fails before any figure is computed.
        import plotly.offline  # noqa: F401
    return True


def save_page(
    report: Results,
    directory: Path,
    title: str,
    run: Mapping[str, Any] | None,
    costs: Mapping[str, Any] | None = None,
    maps: Maps | None = None,
) -> Path:
    """Write report.html; a file of that name that is no report page is refused."""
    from plotly.offline import get_plotlyjs

    path = directory / "report.html"
    parts = {
        "mark": _MARK,
        "title": html.escape(title),
        "style": asset("page.css"),
        "plotly": get_plotlyjs(),
        "data": json_for_script(page_data(report, title, run, costs, maps)),
        "script": asset("page.js"),
    }
    page = fill(asset("page.html"), parts)
    writing.text(path, page, is_page, errors="backslashreplace")
    return path


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Replace every {{name}} in one pass, so that a part never fills a mark of another."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def json_for_script(value: Any) -> str:
    """JSON that no text inside can end or reopen the script element around it."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # The last two end a line in JavaScript before ES2019, though not in JSON.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def asset(name: str, room: str = "tltoolkit.evaluation") -> str:
    """A part of a page, by its name and the package that it lies in."""
    return files(room).joinpath(name).read_text(encoding="utf-8")
