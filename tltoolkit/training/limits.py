"""Callbacks that end a stage: after a number of steps, or at a loss measured outside of it."""

from collections.abc import Callable, Mapping, Sequence

import keras


class StopAfter(keras.callbacks.Callback):
    """Ends each `fit` after its number of steps, also within an epoch.

    Args:
        steps: One number for each `fit`, in their order.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        super().__init__()
        self.steps = tuple(steps)
        self.fits = self.taken = 0

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """The next `fit` begins."""
        # By fits, as one callback serves all stages of a run.
        self.fits, self.taken = self.fits + 1, 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Count."""
        self.taken += 1
        if self.taken == self.steps[self.fits - 1]:
            # Keras' `fit` looks at it after each step (3.15.1).
            self.model.stop_training = True

    def get_state(self) -> dict[str, int]:
        """For checkpoints."""
        return {"fits": self.fits, "taken": self.taken}

    def set_state(self, state: Mapping[str, int]) -> None:
        """As a checkpoint has it."""
        self.fits, self.taken = state["fits"], state["taken"]


class UntilLoss(keras.callbacks.Callback):
    """Ends training after the first epoch with a loss of at most `target`.

    Args:
        measure: Measures the loss.
        target: The loss to reach.
    """

    def __init__(self, measure: Callable[[], float], target: float) -> None:
        super().__init__()
        self.measure, self.target = measure, target
        self.loss = float("inf")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Measure."""
        self.loss = self.measure()
        if self.loss <= self.target:
            self.model.stop_training = True
