"""Every table of settings, and how what it is the table of is called with one of them wrong."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np

import tltoolkit as tl
from tltoolkit._checks import Integer, Number, OneOf, Table
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.terms import FOREIGN, GROWING, SAVE, STREAM
from tltoolkit.augment import terms as augmenting
from tltoolkit.callbacks import (
    _scheduled,
    early_stopping,
    layers,
    own_schedules,
    resume,
    schedules,
    stopping,
    training_monitor,
    validation_metrics,
    weight_average,
)
from tltoolkit.check import terms as checking
from tltoolkit.data import terms as sources
from tltoolkit.deploy.limits import Limits
from tltoolkit.deploy.serving import listening
from tltoolkit.deploy.terms import BENCHMARK, EXPORT, LIMITS, SERVE
from tltoolkit.evaluation import intervals, thresholds
from tltoolkit.evaluation.compare import COMPARE
from tltoolkit.explaining.embedding import Embedding
from tltoolkit.explaining.terms import EMBED, EXPLAIN, MAP, NEIGHBOURS
from tltoolkit.imbalance import terms as balancing
from tltoolkit.losses import counts, cross_entropy, focal
from tltoolkit.model.classifier import Settings
from tltoolkit.model.head import HEAD
from tltoolkit.model.surgery import HEAD_ON_BLOCKS
from tltoolkit.model.terms import FROM_LOGITS, SETTINGS
from tltoolkit.plans import ready
from tltoolkit.plans.stages import STAGE
from tltoolkit.plans.terms import BATCH_NORMS
from tltoolkit.runs.cross_validation import CROSS_VALIDATE
from tltoolkit.runs.record import Run
from tltoolkit.runs.refitting import REFIT
from tltoolkit.runs.terms import FINE_TUNE
from tltoolkit.training.features import Storage
from tltoolkit.training.terms import STORAGE
from tltoolkit.tune import terms as tuning
from tltoolkit.tune.batch_size import BatchSizes

PIXELS, LABELS = np.zeros((8, 4, 4, 3), np.uint8), np.arange(8) % 2


@functools.cache
def images() -> tl.data.ImageData:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3)).astype(np.uint8)
    train = tl.data.from_arrays(pixels, np.arange(12) % 2, val=0.0).train
    return tl.data.ImageData(train=train.subset(np.arange(8)), val=train.subset(np.arange(8, 12)))


@functools.cache
def network() -> keras.Model:
    pixels = keras.Input((4, 4, 3))
    return keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(pixels)))


@functools.cache
def predictor() -> Predictor:
    return Predictor(model=network(), class_names=("a", "b"))


@functools.cache
def report() -> tl.Report:
    return tl.Report.from_predictions([0, 1, 0, 1], [0.1, 0.8, 0.6, 0.4])


class Place(NamedTuple):
    """A table, what it is the table of, and how that is called with one value of one row."""

    table: Table
    owner: Callable[..., Any]
    call: Callable[..., Any]
    # Name -> why a setting of a simple type has no row.
    without: Mapping[str, str] = MappingProxyType({})


def within(table: Table, owner: Callable[..., Any]) -> Table:
    """The rows of the settings that something has; others are for those that share the table."""
    names = inspect.signature(owner).parameters
    return {name: row for name, row in table.items() if name in names}


def schedule(name: str) -> Place:
    """One of the schedules by name, which checks its settings or hands them on."""
    made_of = {
        "linear": schedules.TABLES["polynomial"],
        "power": own_schedules.PowerDecay.table,
        "linear_cosine": own_schedules.LinearCosineDecay.table,
        "noisy_linear_cosine": own_schedules.LinearCosineDecay.table,
        "triangular": own_schedules.TriangularCycle.table,
    }
    function = schedules.SCHEDULES[name]
    table = schedules.TABLES.get(name, made_of.get(name, {}))
    without = {}
    if name == "one_cycle":
        table = {**own_schedules.OneCycle.table, **table}
        without = dict.fromkeys(("initial", "final"), "None is a part of the peak")
    table = {row: table[row] for row in within(table, function) if row not in without}
    given = {row: VALUES[row] for row in inspect.signature(function).parameters if row in VALUES}
    return Place(table, function, lambda **k: function(**{**given, **k}), without)


# Of the settings of schedules that have no default.
VALUES = {
    "initial_learning_rate": 0.1, "decay_steps": 10, "first_decay_steps": 10, "base": 0.01,
    "peak": 0.1, "half_cycle_steps": 10, "boundaries": [], "values": [0.1],
}  # fmt: skip
SIZES = BatchSizes(batch_size=16, images_per_second={}, memory_gb={}, optimizer="sgd", advice="")
BUILT = {"backbone": "vgg16", "class_names": ("a", "b"), "image_size": 64}
COLUMN = "a column is looked for in the table, once that is read"
KEY = "a key is looked for in the examples"
FREE = "anything true or false"
KERAS = "as Keras has it"
ALBUM = "looked at by albumentations"
AUGMENTED = tl.augment.Pipeline(None, 4)
LOSS = tl.losses.LDAM([1, 2])
PLACES = {
    "Stage": Place(STAGE, tl.Stage, lambda **k: tl.Stage(**{"name": "a", **k})),
    "Head": Place(HEAD, tl.Head, tl.Head),
    "Settings": Place(
        SETTINGS, Settings,
        lambda **k: Settings(**{**BUILT, **k}),
        {"backbone": "the table of backbones", "trunk": "the blocks of the backbone"},
    ),
    "build_classifier": Place(
        {
            "multi_label": SETTINGS["multi_label"], "seed": SETTINGS["seed"],
            **augmenting.PREPARATION,
        },
        tl.build_classifier,
        lambda **k: tl.build_classifier(class_names=("a", "b"), weights=None, **k),
        {
            "backbone": "the table of backbones", "trunk": "the blocks of the backbone",
            "image_size": "that of Settings, or None",
        },
    ),
    "Imbalance": Place(balancing.IMBALANCE, tl.Imbalance, tl.Imbalance),
    "Storage": Place(STORAGE, Storage, Storage),
    "Preparation": Place(augmenting.PREPARATION, tl.augment.Preparation, tl.augment.Preparation),
    "Pipeline": Place(
        augmenting.PIPELINE, tl.augment.Pipeline,
        lambda **k: tl.augment.Pipeline(None, **{"image_size": 8, **k}),
    ),
    "preset": Place(
        augmenting.PRESET, tl.augment.preset,
        lambda **k: tl.augment.preset(**{"name": "light", "image_size": 8, **k}),
        {"horizontal_flip": FREE, "vertical_flip": FREE},
    ),
    "from_directory": Place(
        sources.FROM_DIRECTORY, tl.data.from_directory,
        lambda **k: tl.data.from_directory(**{"root": "nowhere", **k}),
    ),
    "from_table": Place(
        sources.FROM_TABLE, tl.data.from_table, lambda **k: tl.data.from_table("nowhere.csv", **k),
        {"image": COLUMN, "split": COLUMN, "separator": "text that is not empty, by hand"},
    ),
    "from_arrays": Place(
        sources.FROM_ARRAYS, tl.data.from_arrays,
        lambda **k: tl.data.from_arrays(PIXELS, LABELS, **k),
    ),
    "from_stream": Place(
        sources.FROM_STREAM, tl.data.from_stream, lambda **k: tl.data.from_stream([], **k),
        {"image": KEY, "label": KEY, "groups": KEY},
    ),
    "from_tfds": Place(
        sources.FROM_TFDS, tl.data.from_tfds, lambda **k: tl.data.from_tfds("nothing", **k),
        {"image": KEY, "label": KEY},
    ),
    "ImageData": Place(
        sources.POLICIES, tl.data.ImageData,
        lambda **k: tl.data.ImageData(train=images().train, **k),
    ),
    "kfold": Place(sources.KFOLD, tl.data.ImageData.kfold, lambda **k: images().kfold(**k)),
    "fine_tune": Place(
        FINE_TUNE, tl.fine_tune,
        lambda **k: tl.fine_tune(network(), images(), **k),
        {"budget": "a number or a text with a unit, and the plan has to go by it"},
    ),
    "search": Place(
        tuning.SEARCH, tl.tune.search,
        lambda **k: tl.tune.search(images(), {"dropout": [0.0, 0.1]}, **k),
    ),
    "find_lr": Place(
        tuning.FIND_LR, tl.tune.find_lr, lambda **k: tl.tune.find_lr(network(), images(), **k)
    ),
    "find_batch_size": Place(
        tuning.FIND_BATCH_SIZE, tl.tune.find_batch_size,
        lambda **k: tl.tune.find_batch_size(network(), images(), **k),
    ),
    "scaled_rate": Place(
        tuning.SCALED_RATE, BatchSizes.scaled_rate,
        lambda **k: SIZES.scaled_rate(**{"learning_rate": 0.1, "batch_size": 8, **k}),
        {"to": "the size that was found, unless it is given"},
    ),
    "learning_curve": Place(
        tuning.LEARNING_CURVE, tl.tune.learning_curve,
        lambda **k: tl.tune.learning_curve(network, images(), **k),
    ),
    "climb": Place(
        tuning.CLIMB, tl.tune.climb, lambda **k: tl.tune.climb(images(), **k),
        {"family": "the families of the table of backbones"},
    ),
    "choose_backbone": Place(
        tuning.CHOOSE_BACKBONE, tl.tune.choose_backbone,
        lambda **k: tl.tune.choose_backbone(images(), **k),
        {"budget": "seconds, or a text that says them, as that of `fine_tune`"},
    ),
    "capacity": Place(
        checking.CAPACITY, tl.check.capacity,
        lambda **k: tl.check.capacity(network(), images(), **k),
        {"from_logits": "that of the network"},
    ),
    "stream": Place(
        STREAM, Predictor.stream,
        lambda **k: predictor().stream([], **k),
    ),
    "predict": Place(STREAM, Predictor.predict, lambda **k: predictor().predict([], **k)),
    "save": Place(SAVE, tl.save, lambda **k: tl.save(network(), "nowhere", **k)),
    "add_class": Place(
        GROWING, tl.add_class,
        lambda **k: tl.add_class(predictor(), **{"name": "c", "images": PIXELS, **k}),
    ),
    "update": Place(
        within(GROWING, tl.update), tl.update, lambda **k: tl.update(predictor(), images(), **k)
    ),
    "evaluate": Place(
        {**within(STREAM, tl.evaluate), "from_logits": FROM_LOGITS},
        tl.evaluate,
        lambda **k: tl.evaluate(network(), images().train, **k),
    ),
    "explain": Place(
        EXPLAIN, tl.explain, lambda **k: tl.explain(network(), PIXELS, **k)
    ),
    "embed": Place(EMBED, tl.embed, lambda **k: tl.embed(network(), PIXELS, **k)),
    "Embedding.neighbours": Place(
        NEIGHBOURS, Embedding.neighbours,
        lambda **k: object.__new__(Embedding).neighbours(PIXELS, **k),
    ),
    "Embedding.map": Place(MAP, Embedding.map, lambda **k: object.__new__(Embedding).map(**k)),
    "export": Place(
        EXPORT, tl.export, lambda **k: tl.export(predictor(), "nowhere.tflite", **k)
    ),
    "benchmark": Place(
        BENCHMARK, tl.benchmark, lambda **k: tl.benchmark(**{"classifiers": ["nowhere"], **k})
    ),
    "serving.listening": Place(SERVE, listening, lambda **k: listening("nowhere.onnx", **k)),
    "serving.Limits": Place(LIMITS, Limits, Limits),
    "foreign.load": Place(
        FOREIGN, tl.foreign.load, lambda **k: tl.foreign.load("nowhere.keras", ("a", "b"), **k)
    ),
    "refit": Place(
        REFIT, tl.refit, lambda **k: tl.refit(**{"run": object.__new__(Run), "data": images(), **k})
    ),
    "cross_validate": Place(
        CROSS_VALIDATE, tl.cross_validate, lambda **k: tl.cross_validate(network, images(), **k)
    ),
    "check.data": Place(
        checking.DATA, tl.check.data, lambda **k: tl.check.data(images(), network(), **k)
    ),
    "gradients": Place(
        checking.GRADIENTS, tl.check.gradients,
        lambda **k: tl.check.gradients(keras.layers.Dense(1), np.ones((1, 2)), **k),
    ),
    "freeze": Place(
        {"batch_norm": OneOf(*BATCH_NORMS)}, tl.freeze,
        lambda **k: tl.freeze(network(), "all", **k),
        {"unfreeze": "the blocks of the model"},
    ),
    "head_on_blocks": Place(
        HEAD_ON_BLOCKS, tl.surgery.head_on_blocks,
        lambda **k: tl.surgery.head_on_blocks(network(), 2, **k),
    ),
    "backbones.build": Place(
        {"seed": Integer(0)}, tl.backbones.build,
        lambda **k: tl.backbones.build("vgg16", keras.Input((64, 64, 3)), None, **k),
        {"name": "the table of backbones"},
    ),
    "backbones.milliseconds": Place(
        {"batch_size": Integer(1)}, tl.backbones.milliseconds,
        lambda **k: tl.backbones.milliseconds("vgg16", **k),
        {"name": "the table of backbones", "image_size": "the backbone has its lower bound"},
    ),
    **{
        f"plans.{name}": Place(table, getattr(tl.plans, name), getattr(tl.plans, name))
        for name, table in ready.TABLES.items()
    },
    "decode": Place(
        sources.DECODE, tl.data.decode, lambda **k: tl.data.decode(b"", **k),
        {"name": "what an error calls it"},
    ),
    # Callbacks, schedules and layers
    "EarlyStopping": Place(
        early_stopping.EARLY_STOPPING, tl.callbacks.EarlyStopping, tl.callbacks.EarlyStopping,
        {"verbose": KERAS},
    ),
    "LearningRateDecay": Place(
        _scheduled.SCHEDULED, tl.callbacks.LearningRateDecay,
        lambda **k: tl.callbacks.LearningRateDecay(float, **k),
    ),
    "MomentumSchedule": Place(
        within(_scheduled.SCHEDULED, tl.callbacks.MomentumSchedule), tl.callbacks.MomentumSchedule,
        lambda **k: tl.callbacks.MomentumSchedule(float, **k),
    ),
    "SpatialDropoutSchedule": Place(
        within(_scheduled.SCHEDULED, tl.callbacks.SpatialDropoutSchedule),
        tl.callbacks.SpatialDropoutSchedule,
        lambda **k: tl.callbacks.SpatialDropoutSchedule(float, **k),
    ),
    "MixedWeightAverage": Place(
        weight_average.AVERAGE, tl.callbacks.MixedWeightAverage, tl.callbacks.MixedWeightAverage
    ),
    "ValidationMetrics": Place(
        validation_metrics.METRICS, tl.callbacks.ValidationMetrics, tl.callbacks.ValidationMetrics
    ),
    "TrainingMonitor": Place(
        training_monitor.MONITOR, tl.callbacks.TrainingMonitor, tl.callbacks.TrainingMonitor
    ),
    "Resume": Place(
        resume.RESUME, tl.callbacks.Resume, lambda **k: tl.callbacks.Resume("nowhere", **k)
    ),
    "ScheduledDropout": Place(
        layers.DROPOUT, layers.ScheduledDropout,
        lambda **k: layers.ScheduledDropout(**{"rate": 0.1, **k}),
    ),
    "ScheduledSpatialDropout2D": Place(
        layers.DROPOUT, layers.ScheduledSpatialDropout2D,
        lambda **k: layers.ScheduledSpatialDropout2D(**{"rate": 0.1, **k}),
    ),
    "DropBlock2D": Place(
        layers.BLOCK, layers.DropBlock2D, lambda **k: layers.DropBlock2D(**{"rate": 0.1, **k})
    ),
    "DropConnect": Place(
        layers.DROPOUT, layers.DropConnect,
        lambda **k: layers.DropConnect(keras.layers.Dense(1), **{"rate": 0.1, **k}),
    ),
    "plot_schedules": Place(
        {"steps": Integer(2)}, tl.callbacks.plot_schedules,
        lambda **k: tl.callbacks.plot_schedules({}, **k),
    ),
    **{f"schedules.{name}": schedule(name) for name in schedules.SCHEDULES},
    "GeneralizationLoss": Place(
        stopping.GeneralizationLoss.table, stopping.GeneralizationLoss, stopping.GeneralizationLoss
    ),
    "ProgressQuotient": Place(
        stopping.ProgressQuotient.table, stopping.ProgressQuotient, stopping.ProgressQuotient
    ),
    "UpInStrips": Place(stopping.UpInStrips.table, stopping.UpInStrips, stopping.UpInStrips),
    # Losses and imbalance
    "CrossEntropy": Place(
        cross_entropy.CROSS_ENTROPY, tl.losses.CrossEntropy, tl.losses.CrossEntropy,
        {"reduction": KERAS, "name": KERAS},
    ),
    "Focal": Place(focal.FOCAL, tl.losses.Focal, tl.losses.Focal),
    "BalancedFocal": Place(
        within(balancing.IMBALANCE, tl.losses.BalancedFocal), tl.losses.BalancedFocal,
        lambda **k: tl.losses.BalancedFocal([1, 2], **k),
    ),
    "Asymmetric": Place(focal.ASYMMETRIC, tl.losses.Asymmetric, tl.losses.Asymmetric),
    "LogitAdjusted": Place(
        {"tau": Number(0)}, tl.losses.LogitAdjusted,
        lambda **k: tl.losses.LogitAdjusted([1, 2], **k),
    ),
    "LDAM": Place(counts.MARGINS, tl.losses.LDAM, lambda **k: tl.losses.LDAM([1, 2], **k)),
    "DeferWeights": Place(
        counts.DEFER, tl.losses.DeferWeights,
        lambda **k: tl.losses.DeferWeights(**{"loss": LOSS, "epoch": 1, **k}),
    ),
    "epoch_rows": Place(
        balancing.EPOCH_ROWS, tl.imbalance.epoch_rows,
        lambda **k: tl.imbalance.epoch_rows(LABELS, "sqrt", **k),
        {"multi_label": FREE},
    ),
    "long_tail": Place(
        balancing.LONG_TAIL, tl.imbalance.long_tail,
        lambda **k: tl.imbalance.long_tail(LABELS, **{"ratio": 2, **k}),
    ),
    "resample": Place(
        {"seed": Integer(0)}, tl.imbalance.resample,
        lambda **k: tl.imbalance.resample(np.ones((8, 2)), LABELS, **k),
    ),
    "logit_offsets": Place(
        {"tau": Number(0)}, tl.imbalance.logit_offsets,
        lambda **k: tl.imbalance.logit_offsets([1, 2], **k),
    ),
    "adjust_logits": Place(
        {"tau": Number(0)}, tl.imbalance.adjust_logits,
        lambda **k: tl.imbalance.adjust_logits(np.ones((1, 2)), [1, 2], **k),
    ),
    "class_weights": Place(
        {"beta": balancing.IMBALANCE["beta"]}, tl.imbalance.class_weights,
        lambda **k: tl.imbalance.class_weights("effective", [1, 2], **k),
    ),
    # Augmentation
    "resize": Place(
        augmenting.RESIZE, tl.augment.resize,
        lambda **k: tl.augment.resize(PIXELS[0], **{"size": 2, **k}),
    ),
    "preview": Place(
        augmenting.PREVIEW, tl.augment.preview,
        lambda **k: tl.augment.preview(images().train, AUGMENTED, **k),
    ),
    "Batches": Place(
        augmenting.BATCHES, tl.augment.Batches,
        lambda **k: tl.augment.Batches(images().train, AUGMENTED, **k),
        {"steps_from": "less than an epoch has"},
    ),
    "views": Place(
        {"n": Integer(1)}, tl.augment.views,
        lambda **k: tl.augment.views(PIXELS[0], AUGMENTED, **k),
        {"index": "any number is the key of a draw", "plain": FREE},
    ),
    **{
        mix.__name__: Place(
            {"alpha": Number(above=0)}, mix,
            lambda mix=mix, **k: mix(PIXELS, np.eye(2)[LABELS], np.random.default_rng(0), **k),
        )
        for mix in (tl.augment.mixup, tl.augment.cutmix)
    },
    "GlobalContrast": Place(
        augmenting.CONTRAST, tl.augment.GlobalContrast, tl.augment.GlobalContrast, {"p": ALBUM}
    ),
    "LocalContrast": Place(
        {**augmenting.CONTRAST, "window": augmenting.WINDOWS}, tl.augment.LocalContrast,
        tl.augment.LocalContrast, {"p": ALBUM},
    ),
    "GlobalContrastNormalization": Place(
        augmenting.CONTRAST, tl.augment.GlobalContrastNormalization,
        tl.augment.GlobalContrastNormalization,
    ),
    "LocalContrastNormalization": Place(
        {**augmenting.CONTRAST, "window": augmenting.WINDOWS},
        tl.augment.LocalContrastNormalization, tl.augment.LocalContrastNormalization,
    ),
    # Evaluation
    "interval": Place(
        intervals.INTERVAL, tl.Report.interval,
        lambda **k: report().interval(**{"name": "accuracy", **k}),
    ),
    "compare": Place(
        COMPARE, tl.evaluation.compare, lambda **k: tl.evaluation.compare(report(), report(), **k)
    ),
    "fbeta": Place({"beta": Number(0)}, tl.Report.fbeta, lambda **k: report().fbeta(**k)),
    "Counts.fbeta": Place(
        {"beta": Number(0)}, tl.evaluation.Counts.fbeta, lambda **k: report().counts.fbeta(**k)
    ),
    "tune_thresholds": Place(
        thresholds.TUNE, tl.Report.tune_thresholds, lambda **k: report().tune_thresholds(**k)
    ),
    "top_losses": Place(
        {"k": Integer(1)}, tl.Report.top_losses, lambda **k: report().top_losses(**k)
    ),
    "most_confused": Place(
        {"k": Integer(1)}, tl.Report.most_confused, lambda **k: report().most_confused(**k)
    ),
    "threshold_for": Place(
        {"accuracy": Number(0, 1)}, tl.evaluation.CoverageCurve.threshold_for,
        lambda **k: report().coverage_curve().threshold_for(**k),
    ),
    "Temperature": Place(
        tl.evaluation.Temperature.table, tl.evaluation.Temperature, tl.evaluation.Temperature
    ),
    "Abstention": Place(
        tl.evaluation.Abstention.table, tl.evaluation.Abstention,
        lambda **k: tl.evaluation.Abstention(coverage=1.0, accuracy=1.0, **k),
        {"coverage": "as it was measured", "accuracy": "as it was measured"},
    ),
}  # fmt: skip
