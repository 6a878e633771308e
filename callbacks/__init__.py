"""Keras callbacks and learning-rate schedules that need nothing else of the toolkit."""

if __name__ != "tltoolkit.callbacks":
    # A second copy under the bare name would register its classes with Keras twice.
    raise ImportError("import it as `tltoolkit.callbacks`: pip install tltoolkit")

from tltoolkit.callbacks import layers, schedules, stopping
from tltoolkit.callbacks.dropout_schedule import SpatialDropoutSchedule
from tltoolkit.callbacks.early_stopping import EarlyStopping
from tltoolkit.callbacks.layers import (
    DropBlock2D,
    DropConnect,
    ScheduledDropout,
    ScheduledSpatialDropout2D,
)
from tltoolkit.callbacks.learning_rate import LearningRateDecay
from tltoolkit.callbacks.momentum import MomentumSchedule
from tltoolkit.callbacks.plateau import ReduceLROnPlateau
from tltoolkit.callbacks.plots import plot_schedules
from tltoolkit.callbacks.resume import Resume
from tltoolkit.callbacks.training_monitor import TrainingMonitor
from tltoolkit.callbacks.validation_metrics import ValidationMetrics
from tltoolkit.callbacks.weight_average import MixedWeightAverage

__all__ = [
    "DropBlock2D",
    "DropConnect",
    "EarlyStopping",
    "LearningRateDecay",
    "MixedWeightAverage",
    "MomentumSchedule",
    "ReduceLROnPlateau",
    "Resume",
    "ScheduledDropout",
    "ScheduledSpatialDropout2D",
    "SpatialDropoutSchedule",
    "TrainingMonitor",
    "ValidationMetrics",
    "layers",
    "plot_schedules",
    "schedules",
    "stopping",
]
