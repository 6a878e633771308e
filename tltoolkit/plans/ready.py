"""Ready-made plans, and the rule that chooses among them."""

from dataclasses import replace

from tltoolkit import _checks
from tltoolkit._checks import Integer, Number, Table
from tltoolkit.plans.stages import STAGE, Plan, Stage
from tltoolkit.plans.terms import LBFGS, LDA

Unfreeze = str | int | float
# Images per class below which fine-tuning does not pay.
FEW = 8
# Macro F1 of the probe from which the features fit, and below which the images are far from them.
NEAR, FAR = 0.98, 0.75
# What is fine-tuned in between: this share of the blocks, for so many epochs, at this rate.
UPPER, EPOCHS, RATE = 0.66, 8, 2e-4
# Fewer epochs than this have not got anywhere, and more bring nothing.
LEAST, MOST = 3, 12
_TUNED: Table = {
    "epochs": STAGE["epochs"],
    "learning_rate": Number(above=0),
    "unfreeze": STAGE["unfreeze"],
}
TABLES: dict[str, Table] = {
    "fine_tune": {
        **_TUNED,
        "head_epochs": STAGE["epochs"],
        "head_learning_rate": Number(above=0),
    },
    "probe_then_fine_tune": {**_TUNED, "learning_rate": STAGE["learning_rate"]},
    "gradual": {
        "blocks": Integer(1),
        "epochs": STAGE["epochs"],
        "patience": STAGE["early_stopping"],
        "learning_rate": Number(above=0),
    },
    "from_scratch": {"epochs": STAGE["epochs"], "learning_rate": Number(1e-3)},
}


def linear_probe() -> Plan:
    """Only the head trains: solved to its optimum on features of plain images.

    The head must be one dense layer, as `tl.Head()` makes it. Dropout plays no part; the L2
    penalty is that of the head, or else its strength is picked on the validation split.
    """
    return Plan((_probe(),))


def fine_tune(
    *,
    epochs: int = 12,
    head_epochs: int = 20,
    # Ten times less than the head's: at 1e-3 a frozen BatchNorm let training collapse.
    learning_rate: float = 3e-4,
    head_learning_rate: float = 3e-3,
    unfreeze: Unfreeze = "all",
) -> Plan:
    """First the head, then the upper layers at a rate 10 to 100 times smaller.

    A new head's first gradients are large and would spoil pretrained layers, so those wait until
    the head has learned. BatchNorm stays frozen, which makes large steps dangerous; hence the
    warm-up, the clipped gradient and the small rate.

    Args:
        epochs: Epochs of the second stage.
        head_epochs: Epochs of the first stage; they cost next to nothing.
        learning_rate: Peak rate of the second stage.
        head_learning_rate: Peak rate of the first stage, 10 to 100 times `learning_rate`.
        unfreeze: What the second stage trains, as in `Stage`.

    Raises:
        ValueError: Rates whose ratio is outside 10 to 100.
    """
    _checks.arguments(TABLES["fine_tune"], locals())
    ratio = head_learning_rate / learning_rate
    # 3e-3 / 3e-4 is 10.000000000000002.
    if not 10 <= round(ratio, 6) <= 100:
        rule = f"{learning_rate * 10:g} to {learning_rate * 100:g} (10 to 100 x learning_rate)"
        raise _checks.fail("head_learning_rate", rule, head_learning_rate)
    # Plain images, whose features are stored once for all epochs.
    head = Stage("head", epochs=head_epochs, learning_rate=head_learning_rate, augment="none")
    return Plan((head, _upper(epochs, learning_rate, unfreeze)))


def probe_then_fine_tune(
    *, epochs: int = 12, learning_rate: float = 3e-4, unfreeze: Unfreeze = "all"
) -> Plan:
    """The head solved to its optimum, then the upper layers from there.

    A head that is already right sends small gradients down, so that the features are refined
    rather than distorted (Kumar et al. 2022).

    Args:
        epochs: Epochs of the second stage.
        learning_rate: Peak rate of the second stage.
        unfreeze: What the second stage trains, as in `Stage`.
    """
    _checks.arguments(TABLES["probe_then_fine_tune"], locals())
    return Plan((_probe(), _upper(epochs, learning_rate, unfreeze)))


def gradual(
    *, blocks: int = 3, epochs: int = 10, patience: int = 2, learning_rate: float = 3e-4
) -> Plan:
    """The head, then one more block per stage, each moving on when validation stops improving.

    Args:
        blocks: How many blocks are unfrozen in the end, one stage each.
        epochs: Most epochs of a stage.
        patience: Epochs without a better validation loss that end a stage.
        learning_rate: Peak rate of the first block's stage; each further one has two thirds.
    """
    _checks.arguments(TABLES["gradual"], locals())
    stages = [
        Stage(
            f"last_{count}",
            unfreeze=count,
            epochs=epochs,
            # Lower blocks hold what serves any image, and shall move less.
            learning_rate=learning_rate * (2 / 3) ** (count - 1),
            # How long a stage lasts is not known, so that there is no end to fall towards.
            schedule="constant",
            warmup=min(0.5, epochs / 2),
            label_smoothing=0.1,
            early_stopping=patience,
        )
        for count in range(1, blocks + 1)
    ]
    return Plan((_probe(), *stages))


def from_scratch(*, epochs: int = 60, learning_rate: float = 1e-3) -> Plan:
    """Everything from random weights: larger rates, BatchNorm trained, many epochs.

    Args:
        epochs: Epochs of its one stage.
        learning_rate: Peak rate, >= 1e-3.

    Raises:
        ValueError: A smaller rate; random weights would hardly move.
    """
    _checks.arguments(TABLES["from_scratch"], locals())
    stage = Stage(
        "from_scratch",
        unfreeze="all",
        epochs=epochs,
        learning_rate=learning_rate,
        warmup=min(5.0, epochs / 4),
        weight_decay=1e-2,
        label_smoothing=0.1,
        # Its averages begin as 0 and 1: frozen, they would normalise nothing.
        batch_norm="train",
    )
    return Plan((stage,))


def _probe() -> Stage:
    # One epoch, which for a solved head says nothing, see `stages.NOTHING`.
    return Stage("probe", optimizer=LBFGS, epochs=1, augment="none")


def _upper(epochs: int, learning_rate: float, unfreeze: Unfreeze) -> Stage:
    return Stage(
        "fine_tune",
        unfreeze=unfreeze,
        epochs=epochs,
        learning_rate=learning_rate,
        # Adam's first steps have full size whatever the gradient; frozen averages bear that badly.
        warmup=min(0.5, epochs / 2),
        label_smoothing=0.1,
    )


def _anew(epochs: int, learning_rate: float) -> Stage:
    return replace(_upper(epochs, learning_rate, UPPER), cache_views=0)


def solve() -> Plan:
    """Only the head trains: linear discriminants in closed form, see `Stage(optimizer="lda")`.

    As `plan="solve"`, by its name, it puts the usual head of a model of `tl.build_classifier` on
    all blocks first, and solves it on training and validation images together in the end.
    """
    return Plan((Stage("solve", optimizer=LDA, epochs=1, augment="none"),))


def first(linear_head: bool) -> Plan:
    """How `plan="auto"` begins: with the head, solved where that is possible."""
    return solve() if linear_head else Plan(fine_tune().stages[:1])


def after_solved(
    *, tunes: bool, images_per_class: float, held_out: float, validated: bool, epochs: int | None
) -> tuple[tuple[Stage, ...], str]:
    """How `plan="auto"` goes on from a solved head, and why.

    What comes of it is kept only where validation images are for it. So the rule asks what it
    could cost, not whether it will help: few images teach millions of weights nothing but
    themselves, and where nearly all is right there is nothing to gain.

    Args:
        tunes: Whether it may go on at all.
        images_per_class: Training images divided by classes.
        held_out: Macro F1 of the solved head on images that it had not seen; NaN for none.
        validated: Whether there are validation images.
        epochs: So many fit the budget; None where there is none.
    """
    on = "training and validation images together" if validated else "the training images"
    had = f"the head was solved on {on} (macro F1 {held_out:.3f} on those held out in turn)"
    # In the order of the reasons: what cannot be judged comes before what does not pay.
    if not tunes:
        return (), had
    if not validated:
        return (), f"{had}; without validation images nobody could say whether tuning helps"
    if images_per_class < FEW:
        few = f"{images_per_class:.0f} training images per class are too few"
        return (), f"{had}; {few} to fine-tune on"
    if held_out >= NEAR:
        return (), f"{had}; that leaves nothing to gain"
    # With a budget there may be more than the usual number, too.
    fit = EPOCHS if epochs is None else min(epochs, MOST)
    if fit < LEAST:
        return (), f"{had}; the budget leaves no time for fine-tuning"
    stage = Stage(
        "fine_tune",
        unfreeze=UPPER,
        epochs=fit,
        learning_rate=RATE,
        # The head is at its optimum.
        head_rate=0.0,
        warmup=0.5,
        label_smoothing=0.1,
        cache_views=0,
    )
    return (stage,), f"{had}; the upper blocks were fine-tuned for {fit} epochs"


def after_head(images_per_class: float, f1: float | None) -> tuple[tuple[Stage, ...], str]:
    """How `plan="auto"` goes on, and why in one sentence.

    Few images cannot teach millions of weights anything but themselves. Otherwise the upper two
    thirds of the blocks are fine-tuned: the lowest hold edges and colours, which are the same
    everywhere, and cost the most time. Each epoch augments its images anew (`cache_views=0`):
    where three stored versions took turns, macro F1 on TrashNet's validation images was two
    points lower (one seed). The worse the pretrained features alone do, the farther the images
    are from what they were learned on: then everything trains, twice as long. Not at a far
    higher rate: at 6e-4 a frozen BatchNorm let the loss explode on textures under noise.

    Args:
        images_per_class: Training images divided by classes.
        f1: Validation macro F1 of the head on pretrained features, or None without validation.
    """
    had = f"{images_per_class:.0f} training images per class"
    if images_per_class < FEW:
        return (), f"only the head was trained, because {had} are too few to fine-tune on"
    if f1 is None:
        return (_anew(EPOCHS, RATE),), f"the upper blocks were fine-tuned, as {had} allow"
    got = f"pretrained features alone had a macro F1 of {f1:.3f}"
    if f1 >= NEAR:
        gently = f"the upper blocks were fine-tuned gently, because {got}"
        return (_anew(EPOCHS // 2, RATE / 2),), gently
    if f1 >= FAR:
        return (_anew(EPOCHS, RATE),), f"the upper blocks were fine-tuned, because {got}"
    return (
        # Without `cache_views=0`: everything trains, and nothing could be stored.
        (_upper(2 * EPOCHS, 3e-4, "all"),),
        f"all layers were fine-tuned for long, because {got}",
    )


# By these names a head is put on all blocks; which of them it reads is chosen.
WIDENED = ("auto", "solve")
PLANS = {
    "solve": solve,
    "linear_probe": linear_probe,
    "fine_tune": fine_tune,
    "gradual": gradual,
    "probe_then_fine_tune": probe_then_fine_tune,
    "from_scratch": from_scratch,
}
