"""The validation pass of a fit, whose predictions are handed to those who score them."""

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf


class Evaluation:
    """A model's `evaluate`, whose validation pass within `fit` is scored too.

    One for all callbacks of a fit that score: they share the predictions, which are kept once.

    Args:
        model: A compiled model.
        kind: The callbacks that score; their `score(targets, outputs)` returns what to log.
    """

    def __init__(self, model: Any, kind: type[Any]) -> None:
        before: Any = model.__dict__.get("evaluate")
        self.model, self.kind = model, kind
        self.own: Callable[..., Any] | None = (
            # What a failed fit left is not wrapped again, or it would keep everything twice.
            before.own if isinstance(before, Evaluation) else before
        )
        self.test_function: Callable[..., Any] | None = None
        self.kept: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []

    def __call__(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """Evaluate; the logs have the scores as well, if this is the pass of a fit with them."""
        evaluate = self.own or functools.partial(type(self.model).evaluate, self.model)
        # Only the validation pass of a fit carries the callbacks of that fit.
        listed = getattr(callbacks, "callbacks", ())
        scorers = [one for one in listed if isinstance(one, self.kind)]
        if not scorers:
            return evaluate(*args, callbacks=callbacks, **kwargs)
        with self._tapped():
            logs = dict(evaluate(*args, callbacks=callbacks, **kwargs))
        # After `evaluate`, whose last batch has been handed over by then.
        targets, outputs = self._take()
        for scorer in scorers:
            logs |= scorer.score(targets, outputs)
        return logs

    def undo(self) -> None:
        """Give the model back its `evaluate`."""
        if self.own is None:
            self.model.__dict__.pop("evaluate")
        else:
            self.model.evaluate = self.own

    @contextmanager
    def _tapped(self) -> Iterator[None]:
        """Let the validation pass hand over its predictions; undone even if it fails."""
        model = self.model
        own, test_function = model.__dict__.get("compute_metrics"), model.test_function
        # Every test step calls it with the outputs, a model's own step too; nothing else does.
        model.compute_metrics = self._keeping(model.compute_metrics)
        self.kept = []
        # Traced with the tap in it, once for all epochs; the model's own one has none.
        model.test_function = self.test_function
        try:
            if self.test_function is None:
                self._make_test_function()
            yield
        finally:
            # Off the instance, under which the class's own one lies.
            model.__dict__.pop("compute_metrics")
            if own is not None:
                model.compute_metrics = own
            model.test_function = test_function

    def _keeping(self, compute_metrics: Callable[..., Any]) -> Callable[..., Any]:
        # TensorFlow never forgets a Python function that a graph calls, nor what it is bound to.
        weak = weakref.proxy(self)

        def keep_and_compute(x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            if not (tf.is_tensor(y) and tf.is_tensor(y_pred)):
                raise ValueError("ValidationMetrics needs a model with one output and targets")
            # In the graph, as a list that Python appends to would get symbols, once.
            tf.numpy_function(_keeper(weak), [y, tf.cast(y_pred, tf.float32)], [])
            return compute_metrics(x, y, y_pred, sample_weight=sample_weight)

        return keep_and_compute

    def _make_test_function(self) -> None:
        """Keras' own test function, without XLA: it cannot call back into Python."""
        model = self.model
        jit_compile = model.jit_compile
        model.jit_compile = False
        model.make_test_function(force=True)
        # At once: the training step, if it is traced later, keeps XLA.
        model.jit_compile = jit_compile
        self.test_function = model.test_function

    def _take(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        kept, self.kept = self.kept, []
        if not kept:
            raise ValueError(
                "ValidationMetrics saw no predictions: the model's own `test_step` must call "
                "`compute_metrics(x, y, y_pred, sample_weight)`"
            )
        targets, outputs = zip(*kept, strict=True)
        return np.concatenate(targets), np.concatenate(outputs)


def _keeper(weak: Any) -> Callable[..., None]:
    def keep(y: npt.NDArray[Any], scores: npt.NDArray[np.float32]) -> None:
        # Copies: TensorFlow reuses the memory behind these arrays.
        weak.kept.append((np.array(y), np.array(scores)))

    return keep
