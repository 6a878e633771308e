"""export: a trained classifier as a file that other programs compute."""

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.artifacts import inference, loading
from tltoolkit.artifacts.artifact import versions
from tltoolkit.artifacts.keras_engine import KerasEngine
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.augment.labels import reader
from tltoolkit.data import Split
from tltoolkit.deploy import checking, converting, graphs, targets
from tltoolkit.deploy.checking import Export
from tltoolkit.deploy.terms import EXPORT
from tltoolkit.evaluation import Decision
from tltoolkit.files import reading, writing
from tltoolkit.model import outputs
from tltoolkit.runs.record import Run
from tltoolkit.runtimes.card import Card

# Ranges of activations are those seen: of fewer images they are a matter of chance, of more than
# some hundred they hardly change.
LEAST, ENOUGH = 16, 300


def export(
    classifier: Any,
    path: str | Path,
    format: str | None = None,
    quantize: str | None = None,
    *,
    calibration: Any = None,
    validation: Any = None,
    strict: bool = False,
) -> Export:
    """Write a trained classifier as a file that needs neither TensorFlow nor Keras.

    The file takes RGB pixels (B, S, S, 3) as float32 of 0..255 and gives probabilities (B, C). It
    carries the names of the classes, the decision (temperature, thresholds, abstention), the
    shares of the classes and how images are prepared, and a digest of all of it. `tl.load` reads
    it and answers as the classifier does. Where the classifier knows how familiar images are, a
    second output gives their distance (B, 1), and the file what a distance says; int8 is too
    coarse for that and leaves it out.

    Args:
        classifier: What `tl.fine_tune` returned, a `Predictor`, or the directory of a saved one.
            A model of your own that ends in logits comes with images, by which it is told
            whether an image has several labels, or as a `Predictor` of `tl.foreign.load`.
        path: Of a new file, in a folder that exists; for a SavedModel of a new folder.
        format: `"litert"` (.tflite: phones, with labels for Android's Task Library and
            MediaPipe), `"onnx"` (.onnx: servers, browsers), `"openvino"` (.xml, with its .bin) or
            `"saved_model"` (a folder, for TensorFlow Serving). None tells by the end of `path`,
            and is `"litert"` otherwise.
        quantize: `"float16"` stores weights in half precision; `"int8"` (LiteRT) also computes in
            whole numbers, for less than a third of the size. A head on statistics of several
            blocks loses by int8. None leaves float32.
        calibration: A `Split` such as `data.train`, for int8: ranges of numbers are taken from
            up to 300 of its images, 16 or more.
        validation: A `Split` such as `data.val`, to compare on; None takes `calibration`, or
            without one made-up images.
        strict: Raise where the comparison finds too much of a difference, and write nothing.

    Returns:
        The comparison, which is also written beside the file, as `<name>.json`. It prints.

    Raises:
        FileExistsError: Something is there already.
        FileNotFoundError: The folder is not there, or the classifier.
        ImportError: A package is missing; the extra is named.
        ValueError: Arguments that do not fit, or a model that cannot be written in this format:
            operations that are not known to it are named.
        RuntimeError: With `strict`: float probabilities differ by more than 1e-3 (float16: 0.02),
            or macro F1 falls by more than one point.

    Warns:
        UserWarning: The same, without `strict`.
    """
    _checks.arguments(EXPORT, locals())
    target = reading.local(path)
    kind = targets.checked(target, format, quantize)
    _check_images(calibration, validation, quantize)
    converting.check_packages(kind)
    before = _predictor(classifier, validation if calibration is None else calibration)
    engine = before.engine
    if not isinstance(engine, KerasEngine):
        rule = "a run, a predictor of a Keras model, or the directory of one"
        raise _checks.fail("classifier", rule, str(engine))
    split = calibration if validation is None else validation
    if split is not None:
        split = _drawn(split, checking.MOST).in_classes(
            before.class_names, before.decision.multi_label
        )
    images = _images(engine, calibration) if quantize == "int8" else None
    with tempfile.TemporaryDirectory() as folder:
        card = _card(before, engine, quantize)
        graph = graphs.of(engine, familiarity=card.familiarity is not None)
        made = converting.convert(graph, kind, Path(folder), card, images)
        figures = checking.compare(before, loading.of_file(made), split)
        told = Export(
            path=target,
            format=kind,
            quantize=quantize,
            size=targets.size_of(made),
            advice=checking.advice(quantize, figures),
            **figures,
        )
        if told.advice and strict:
            raise RuntimeError(f"{target} is not written: {told.advice}")
        converting.place(made, target)
    record = {"format": "tltoolkit.export/1", "export": told.to_dict(), "versions": versions()}
    writing.plain_json(targets.beside(target), record)
    if told.advice:
        warnings.warn(f"{target}: {told.advice}", stacklevel=2)
    return told


def _check_images(calibration: Any, validation: Any, quantize: str | None) -> None:
    for name, given in (("calibration", calibration), ("validation", validation)):
        if given is not None:
            _checks.instance(name, given, Split, "a Split, such as data.train")
    if quantize == "int8" and (calibration is None or len(calibration) < LEAST):
        rule = f"a Split of {LEAST} images or more for quantize='int8', such as data.train"
        raise _checks.fail("calibration", rule, calibration)


def _predictor(classifier: Any, split: Split | None) -> Predictor:
    if isinstance(classifier, (str, os.PathLike)):
        return loading.load(Path(classifier))
    if isinstance(classifier, Run):
        return _of_run(classifier, split)
    rule = "a run, a predictor, or the directory of a saved classifier"
    _checks.instance("classifier", classifier, Predictor, rule)
    found: Predictor = classifier
    return found


def _of_run(run: Run, split: Split | None) -> Predictor:
    names = tuple(run.settings["class_names"])
    meaning = run.options.get("from_logits", "auto")
    own = getattr(run.model, "tltoolkit_settings", None)
    network = KerasEngine.of(run.model, meaning, False).network
    if own is not None:
        several = own.multi_label
    elif split is not None:
        several = split.multi_label
    elif network.from_logits:
        rule = "given with `validation` images for a model that ends in logits, or a predictor of"
        raise _checks.fail("classifier", f"{rule} tl.foreign.load", run.model.name)
    else:
        several = network.activation == outputs.SIGMOID and network.classes == len(names)
    return Predictor(
        model=run.model,
        class_names=names,
        decision=Decision(multi_label=several),
        from_logits=meaning,
    )


def _drawn(split: Split, most: int) -> Split:
    """The images of a split, or as many of them as a draw of one seed gives."""
    if len(split) <= most:
        return split
    chosen = np.random.default_rng(0).permutation(len(split))[:most]
    return split.subset(np.sort(chosen))


def _images(engine: KerasEngine, calibration: Split) -> np.ndarray:
    """Images (N, S, S, 3) as the model takes them, to calibrate on."""
    split = _drawn(calibration, ENOUGH)
    plain = inference.versions_of(engine, None, 1)[0]
    image = reader(split, plain.image_size)
    return np.stack([plain(image(i)) for i in range(len(split))])


def _card(predictor: Predictor, engine: KerasEngine, quantize: str | None) -> Card:
    known, familiarity = engine.settings, engine.familiarity
    return Card(
        class_names=tuple(predictor.class_names),
        decision=predictor.decision,
        image_size=engine.image_size,
        preparation=engine.preparation,
        train_prior=known.train_prior if known else None,
        output_prior=known.output_prior if known else None,
        quantize=quantize,
        # Numbers of eight bits are too coarse for a distance.
        familiarity=None if familiarity is None or quantize == "int8" else familiarity.ranks,
    )
