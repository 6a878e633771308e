"""Draw schedules."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tltoolkit import _checks


def plot_schedules(schedules: Mapping[str, Any] | Any, steps: int, ax: Any = None) -> Any:
    """Draw one or several schedules over `steps` steps.

    Args:
        schedules: a schedule or function of the step, or several by name.
        steps: number of steps to draw, >= 2.
        ax: matplotlib axes to draw on; None makes some.

    Returns:
        The axes.

    Raises:
        ImportError: without matplotlib.

    >>> from tltoolkit.callbacks.schedules import cosine, step
    >>> axes = plot_schedules({"cosine": cosine(0.1, 100), "step": step(0.1, 25)}, 100)
    >>> [line.get_label() for line in axes.get_lines()]
    ['cosine', 'step']
    """
    from tltoolkit.callbacks._scheduled import is_keras_schedule, schedule_values

    _checks.integer("steps", steps, 2)
    named = schedules if isinstance(schedules, Mapping) else {type(schedules).__name__: schedules}
    axes = _new_axes() if ax is None else ax
    for name, schedule in named.items():
        if is_keras_schedule(schedule):
            values = schedule_values(schedule, 0, steps)
        else:
            values = np.array([schedule(t) for t in range(steps)], np.float32)
        axes.plot(np.arange(steps), values, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("value")
    axes.legend()
    return axes


def _new_axes() -> Any:
    with _checks.extra("drawing needs matplotlib", "report"):
        from matplotlib.figure import Figure
    return Figure(layout="constrained").subplots()
