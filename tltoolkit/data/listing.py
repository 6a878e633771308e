"""What an error or a warning lists, cut to what a person will read."""

from collections.abc import Sequence

# A screen of lines; all that a folder of thousands has to say would push the advice out of sight.
_LINES = 50


def lines(items: Sequence[str], hint: str = "") -> str:
    """The first items, indented, one in a line; `hint` says where the others are."""
    shown = [f"  {item}" for item in items[:_LINES]]
    if len(items) > _LINES:
        shown.append(f"  and {len(items) - _LINES} more{hint}")
    return "\n".join(shown)
