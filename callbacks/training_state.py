"""All that decides how a training run goes on: taken from a model, and put back."""

import random
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tltoolkit.layers import private

# Keras' own callbacks that have a state worth keeping.
KERAS_STATE = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best", private.MODEL_CHECKPOINT_COUNTER),
}


def model_variables(model: Any) -> list[Any]:
    """Weights and the state of every seed generator in the model, without its metrics."""
    # By identity: Keras compares variables by value.
    metrics = {id(variable) for variable in metric_variables(model)}
    return [variable for variable in model.variables if id(variable) not in metrics]


def metric_variables(model: Any) -> list[Any]:
    """The running sums behind the training metrics."""
    return [variable for metric in model.metrics for variable in metric.variables]


def values(variables: list[Any]) -> list[np.ndarray[Any, Any]]:
    """Copies of the values."""
    # Copied: the array of a variable is its memory, which the next step overwrites.
    return [np.copy(tf.convert_to_tensor(variable.value).numpy()) for variable in variables]


def check_fits(what: str, variables: list[Any], saved: list[Any]) -> None:
    """Raise ValueError unless the saved values have the shapes of the variables."""
    now = [tuple(variable.shape) for variable in variables]
    then = [tuple(value.shape) for value in saved]
    # Before anything is assigned: half a checkpoint is worse than none.
    if now != then:
        raise ValueError(
            f"the checkpoint does not fit: the {what} has {len(now)} variables and the "
            f"checkpoint {len(then)}, or their shapes differ; was the model or the optimizer "
            "changed, or what is trainable?"
        )


def assign(variables: list[Any], saved: list[Any]) -> None:
    """Give the variables the saved values."""
    for variable, value in zip(variables, saved, strict=True):
        # NumPy's file format forgets bfloat16 and keeps its bytes.
        known = value if value.dtype.kind != "V" else value.view(values([variable])[0].dtype)
        variable.assign(known)


def random_state() -> dict[str, Any]:
    """The state of Python's and NumPy's global generators."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 - the one others draw from
    return {"python": list(random.getstate()), "numpy": numpy_state}


def set_random_state(state: dict[str, Any]) -> None:
    """Put the global generators back."""
    # JSON makes lists of tuples, which `setstate` refuses.
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(state["numpy"])  # noqa: NPY002


def callback_state(callback: Any) -> dict[str, Any]:
    """What changes in a callback while training runs."""
    if hasattr(callback, "get_state"):
        # Ours and the user's first; Keras' own have no such method (3.15.1).
        return dict(callback.get_state())
    return {name: getattr(callback, name, None) for name in _names(callback)}


def set_callback_state(callback: Any, state: dict[str, Any]) -> None:
    """Put a callback back."""
    if hasattr(callback, "set_state"):
        callback.set_state(state)
    else:
        for name in _names(callback):
            setattr(callback, name, state[name])


def set_callback_states(callbacks: list[Any], states: list[dict[str, Any]]) -> None:
    """Put callbacks back, in the order in which their states were taken."""
    if len(callbacks) != len(states):
        raise ValueError(
            f"the checkpoint holds the state of {len(states)} callbacks; Resume was given "
            f"{len(callbacks)}"
        )
    for callback, state in zip(callbacks, states, strict=True):
        set_callback_state(callback, state)


def keeps_state(callback: Any) -> bool:
    """Whether `callback_state` knows what to keep of this callback."""
    both = hasattr(callback, "get_state") and hasattr(callback, "set_state")
    return both or bool(_names(callback))


def _names(callback: Any) -> tuple[str, ...]:
    return next((names for kind, names in KERAS_STATE.items() if isinstance(callback, kind)), ())
