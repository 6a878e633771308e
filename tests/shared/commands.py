"""Commands run within the process of a test."""

from typing import Any

import pytest

from tltoolkit.cli import main


def said(words: list[Any], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """What a command that ends with a code prints: its results, or where it failed its errors."""
    capsys.readouterr()
    assert main(list(map(str, words))) == code
    told = capsys.readouterr()
    return told.out if code in (0, 3) else told.err
