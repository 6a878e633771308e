"""explain: where in images the evidence for a class lies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.artifacts import loading, seeing
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.data import Split
from tltoolkit.evaluation import Decision
from tltoolkit.explaining.explainer import Explainer
from tltoolkit.explaining.explanation import Explanation, joined
from tltoolkit.explaining.looking import check_some, items_of
from tltoolkit.explaining.targets import Target
from tltoolkit.explaining.terms import CAM, EXPLAIN


def explain(
    model: Any,
    images: Sequence[seeing.Image] | Split,
    method: str = CAM,
    target: Target = None,
    by_block: bool = False,
    *,
    batch_size: int = 32,
) -> Explanation:
    """Where in each image the evidence for its class lies.

    Images go through the model a batch at a time; a class activation map costs little more than
    the prediction. The result keeps all of them: 0.55 GB for a thousand of 224 pixels.

    Args:
        model: A `Predictor`, a `keras.Model` of `tl.build_classifier` or your own, or the path of
            a saved or exported classifier.
        images: N images, one or more, as `Predictor.predict` takes them, or a `Split`.
        method: `"cam"` is exact, for a head that is one dense layer on statistics of maps, of one
            or several blocks (class activation mapping, Zhou et al. 2016): a mean is made up of
            the weighted activations, a standard deviation of each position's part of the
            variance, a maximum of the place where it is. `"grad_cam"` weights the channels of
            the last map by the slopes of the logit, for any head on maps (Selvaraju et al. 2017).
            `"occlusion"` covers patches and asks again, 121 times an image, for any classifier
            (Zeiler and Fergus 2014).
        target: The class to look for: a name (or its number), or N of them; None is the class
            that the classifier answers, of several labels the surest.
        by_block: Whether to tell blocks apart too: those that the head reads for `"cam"`, all
            that have positions for `"grad_cam"`.
        batch_size: Images per forward pass.

    Returns:
        The `Explanation`: `maps` (N, S, S) in 0..1, signed `evidence`, `targets`, overlays.

    Raises:
        ValueError: An unknown method, or one that does not work for this classifier (the message
            says which do); a target that is no class; an image that cannot be read, named; what
            `Predictor.predict` and `tl.load` raise.
        TypeError: No classifier.
    """
    _checks.arguments(EXPLAIN, locals())
    check_some(images)
    return explained(
        Explainer.of(predictor_of(model), method, by_block, batch_size), images, target
    )


def explained(
    explainer: Explainer, images: Sequence[seeing.Image] | Split, target: Target = None
) -> Explanation:
    """What an explainer finds in one image or more; arguments and errors as of `explain`."""
    items, read = items_of(images, explainer.predictor.engine.image_size)
    parts = []
    for batch, part in explainer.stream(items, target, len(images), read):
        for item in batch:
            seeing.good(item)
        parts += [part] if part is not None else []
    return joined(parts)


def predictor_of(model: Any) -> Predictor:
    """A predictor of whatever `explain` and `embed` take.

    Raises:
        TypeError: It is none of that.
        ValueError: What `tl.load` and `tl.evaluate` say of paths and models.
    """
    if isinstance(model, Predictor):
        return model
    if isinstance(model, (str, Path)):
        return loading.load(model)
    # Here: an exported file needs no Keras.
    from tltoolkit.model import outputs
    from tltoolkit.model.network import network_of

    network = network_of(model)
    if network.settings is not None:
        names, several = network.settings.class_names, network.settings.multi_label
    else:
        # Sigmoids are for several labels; one alone stands for two classes.
        several = network.activation == outputs.SIGMOID and network.classes > 1
        names = tuple(map(str, range(max(network.classes, 2))))
    decision = Decision(multi_label=several)
    # What was seen of the outputs is stated, so that nobody looks again.
    return Predictor(model=model, class_names=names, decision=decision, from_logits=network.stated)
