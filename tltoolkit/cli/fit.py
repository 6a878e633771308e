"""Train a classifier on a folder of images."""

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any, TextIO

from tltoolkit import _checks
from tltoolkit._checks import Number, OneOf
from tltoolkit.augment.terms import PRESETS
from tltoolkit.cli import options, outputs, record, settings
from tltoolkit.files import reading
from tltoolkit.imbalance.terms import METHODS
from tltoolkit.model.terms import HUB
from tltoolkit.plans.ready import PLANS
from tltoolkit.plans.stages import STAGE
from tltoolkit.runs.terms import FINE_TUNE, seconds_of

# Seconds in which --backbone auto looks around, at most; it is a quarter of a given budget.
CHOOSING = 120.0
EPILOG = """\
The same command again goes on with an interrupted run, or does nothing where it is finished."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options; each that is no instruction is a setting of the YAML file, too."""
    parser.epilog = EPILOG
    options.add_data(parser, optional=True)
    options.add_model(parser, auto=True)
    add = parser.add_argument_group("training").add_argument
    add("--run-dir", metavar="RUN", help="a new folder for the classifier and its record")
    plans = options.in_words(OneOf("auto", *PLANS))
    add("--plan", default="auto", help=f"{plans}, or a .yaml file of stages (default auto)")
    add("--epochs", **options.allowing(STAGE["epochs"], "epochs of a ready-made plan"))
    add("--learning-rate", **options.allowing(Number(above=0), "peak rate of a ready-made plan"))
    add("--budget", metavar="TIME", help="what --plan auto may take: seconds, 90s, 5m or 1h")
    presets = options.in_words(OneOf("auto", *PRESETS))
    add("--augment", default="auto", help=f"{presets}, or a .yaml file (default auto)")
    methods = OneOf("auto", *METHODS)
    add(
        "--imbalance",
        **options.allowing(methods, "what is done about classes of different size", default="none"),
    )
    for name, default, what in (
        ("batch_size", 32, "images per step"),
        ("cache_gb", 2.0, "GiB of stored activations kept in memory"),
        ("cache_dtype", "float32", "of stored activations"),
        ("save_freq", "epoch", "checkpoints each epoch, or also every n steps"),
    ):
        flag = f"--{name.replace('_', '-')}"
        add(flag, **options.allowing(FINE_TUNE[name], what, default=default))
    add(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether RUN may hold an interrupted run (default: yes)",
    )
    for name, what in (
        ("familiarity", "whether RUN knows strangers; if left out, where its head was solved"),
        ("statistics", "whether RUN can learn further images; if left out, where that is small"),
    ):
        add(f"--{name}", action=argparse.BooleanOptionalAction, help=what)
    add("--force", action="store_true", help="resume though settings, data or versions changed")
    add = parser.add_argument_group("settings").add_argument
    add("--settings", metavar="FILE", help="YAML file of settings by the names of these flags")
    add("--from", dest="from_run", metavar="RUN", help="repeat that run; flags still count")
    add("--changed-data", action="store_true", help="repeat it although its images changed")
    add("--dry-run", action="store_true", help="print plan, time and memory, and write nothing")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Train, and print where and how well."""
    resume = "force" if args.force else args.resume
    plan, pipeline = _checked(args, resume)
    # The text of files, so that the run can be repeated where they are not.
    args.data, args.plan = options.absolute(args.data), settings.text_of(args.plan) or args.plan
    args.augment = settings.text_of(args.augment) or args.augment
    data = options.load_data(args)
    # Before Keras is loaded: other images would make another run.
    fingerprint = _same_data(args, data)
    tl = options.toolkit(args)
    if args.backbone == options.AUTO:
        args.backbone = _chosen(args, data)
    # A dry run needs no values, and fetches none.
    model = options.build_model(args, data, dry=args.dry_run)
    training = {
        "imbalance": args.imbalance,
        "batch_size": args.batch_size,
        "seed": args.seed,
        "cache_gb": args.cache_gb,
        "cache_dtype": args.cache_dtype,
    }
    # Without `noted`, since a dry run leaves nothing behind.
    if args.dry_run:
        return _estimate(args, out, model, data, (plan, pipeline), training)
    with record.noted(args.run_dir, resume, recorded(args), fingerprint):
        done = tl.fine_tune(
            model,
            data,
            plan,
            pipeline,
            run_dir=args.run_dir,
            resume=resume,
            save_freq=args.save_freq,
            verbose=0 if args.quiet else "auto",
            budget=args.budget,
            familiarity=args.familiarity,
            statistics=args.statistics,
            **training,
        )
    _show(args, out, done)
    return 0


def _checked(args: argparse.Namespace, resume: bool | str) -> tuple[Any, Any]:
    """The plan and the augmentation, after a look at all that needs neither images nor Keras."""
    from tltoolkit import backbones

    if args.data is None:
        raise ValueError("DIR is missing: give the folder of images")
    if args.run_dir is None and not args.dry_run:
        raise ValueError("--run-dir is missing: name a new folder for the trained classifier")
    if not args.dry_run:
        outputs.check_run(args.run_dir, resume)
    if args.backbone == options.AUTO:
        _check_auto(args)
    elif args.backbone.startswith(HUB):
        # A run would keep it as a model of one's own, which no other command reads.
        rule = "a name of `tltoolkit backbones`; presets are for tl.build_classifier in Python"
        raise _checks.fail("backbone", rule, args.backbone)
    elif args.trunk is not None:
        _checks.one_of("trunk", args.trunk, backbones.get(args.backbone).blocks)
    else:
        backbones.get(args.backbone)
    if args.weights not in ("imagenet", "none"):
        args.weights = options.absolute(args.weights)
        reading.regular(Path(args.weights))
    args.budget = seconds_of(args.budget, args.plan)
    wanted = {"epochs": args.epochs, "learning_rate": args.learning_rate}
    given = {name: value for name, value in wanted.items() if value is not None}
    return settings.plan_of(args.plan, **given), _pipeline(args.augment)


def _check_auto(args: argparse.Namespace) -> None:
    """See that nothing is said that only one backbone can be asked for."""
    for name, usual in (("trunk", None), ("weights", "imagenet"), ("dry_run", False)):
        if (value := getattr(args, name)) != usual:
            raise _checks.fail(name, "left out with backbone='auto'", value)


def _chosen(args: argparse.Namespace, data: Any) -> str:
    """The backbone that a short climb prefers, or that an interrupted run began with."""
    if record.exists(args.run_dir):
        return str(record.read(args.run_dir)["settings"]["backbone"])
    from tltoolkit.tune import choose_backbone

    found = choose_backbone(
        data,
        budget=CHOOSING if args.budget is None else min(CHOOSING, args.budget / 4),
        image_size=args.image_size,
        fit=args.fit,
        normalise=args.normalise,
        seed=args.seed,
    )
    print(found)
    return found.backbone


def recorded(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that repeat this run elsewhere."""
    # Only to know the names of the settings: nothing is parsed with it.
    parser = argparse.ArgumentParser()
    add(parser)
    # A repetition needs a directory of its own.
    return {**settings.of(args, parser), "run_dir": None}


def _same_data(args: argparse.Namespace, data: Any) -> str:
    """The fingerprint of the data, which must be that of the run that is repeated."""
    found = record.fingerprint(data, args.data)
    repeated = args.from_run and not args.changed_data
    if repeated and record.read(args.from_run)["fingerprint"] != found:
        raise ValueError(
            f"the images in {args.data} are not those that {args.from_run} was trained on; "
            "pass --changed-data to train on them all the same"
        )
    return found


def _pipeline(value: str) -> Any:
    """A preset's name, or the pipeline of a file."""
    from tltoolkit import augment

    text = settings.text_of(value)
    if text is not None:
        return settings.of_file(value, lambda: augment.Pipeline.from_yaml(text))
    # Checked here as well as in `fine_tune`, since a file name is allowed here.
    if value not in ("auto", *augment.PRESETS):
        named = ", ".join(map(repr, ["auto", *augment.PRESETS]))
        raise _checks.fail("augment", f"one of {named}, or a .yaml file", value)
    return value


def _estimate(
    args: argparse.Namespace,
    out: TextIO,
    model: Any,
    data: Any,
    how: tuple[Any, Any],
    training: dict[str, Any],
) -> int:
    from tltoolkit.runs.estimate import estimate

    found = estimate(model, data, *how, budget=args.budget, **training)
    outputs.show(args, out, found.to_dict(), found)
    return 0


def _show(args: argparse.Namespace, out: TextIO, done: Any) -> None:
    best = {name: row[done.best_epoch] for name, row in done.history.items()}
    # A history has NaN where a stage lacks a score.
    scores = {name: value for name, value in best.items() if math.isfinite(value)}
    told = {"run_dir": str(done.run_dir), "best_epoch": done.best_epoch, "why": done.why}
    seconds = sum(stage.seconds for stage in done.stages)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    compared = [dataclasses.asdict(one) for one in done.candidates]
    table = f"{done.candidates}\n" if compared else ""
    text = f"{done.why}\n{table}best epoch {done.best_epoch + 1}: {shown}\n{done.run_dir}"
    told |= {"seconds": seconds, "scores": scores, "candidates": compared}
    outputs.show(args, out, told, text)
