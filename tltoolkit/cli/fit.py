"""Train a classifier on a folder of images."""

import argparse
import inspect
import json
import math
from typing import Any, TextIO

from tltoolkit.cli import options, record, settings

EPILOG = """\
The same command again goes on with an interrupted run, or does nothing where it is finished."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options; each that is no instruction is a setting of the YAML file, too."""
    parser.epilog = EPILOG
    options.add_data(parser, optional=True)
    options.add_model(parser)
    add = parser.add_argument_group("training").add_argument
    add("--run-dir", metavar="RUN", help="a new folder for the classifier and its record")
    add(
        "--plan",
        default="auto",
        help="auto (default), linear_probe, fine_tune, gradual, probe_then_fine_tune, "
        "from_scratch, or a .yaml file of stages",
    )
    add("--epochs", type=int, help="epochs of a ready-made plan")
    add("--learning-rate", type=float, help="peak rate of a ready-made plan")
    add(
        "--augment",
        default="auto",
        help="auto (default), none, light, medium, strong, trivial, or a .yaml file",
    )
    add("--imbalance", default="none", help="none (default), auto or a method; see the docs")
    add("--batch-size", type=int, default=32, help="images per step (default %(default)s)")
    add("--cache-gb", type=float, default=2.0, help="GiB of stored activations kept in memory")
    add("--cache-dtype", default="float32", help="of stored activations: float32 or float16")
    add("--save-freq", default="epoch", help="checkpoints: epoch (default), or also every n steps")
    add(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether RUN may hold an interrupted run (default: yes)",
    )
    add("--force", action="store_true", help="resume though settings, data or versions changed")
    add = parser.add_argument_group("settings").add_argument
    add("--settings", metavar="FILE", help="YAML file of settings by the names of these flags")
    add("--from", dest="from_run", metavar="RUN", help="repeat that run; flags still count")
    add("--changed-data", action="store_true", help="repeat it although its images changed")
    add("--dry-run", action="store_true", help="print plan, time and memory, and write nothing")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Train, and print where and how well."""
    if args.data is None:
        raise ValueError("DIR is missing: give the folder of images")
    if args.run_dir is None and not args.dry_run:
        raise ValueError("--run-dir is missing: name a new folder for the trained classifier")
    args.data, args.plan = options.absolute(args.data), settings.text_of(args.plan) or args.plan
    args.augment = settings.text_of(args.augment) or args.augment
    tl = options.toolkit(args)
    data = options.load_data(args)
    fingerprint = _same_data(args, data)
    plan, pipeline = _plan(tl, args), _pipeline(tl, args.augment)
    if args.weights not in ("imagenet", "none"):
        args.weights = options.absolute(args.weights)
    # A dry run needs no values, and fetches none.
    model = options.build_model(args, data, dry=args.dry_run)
    training = {
        "imbalance": args.imbalance,
        "batch_size": args.batch_size,
        "seed": args.seed,
        "cache_gb": args.cache_gb,
        "cache_dtype": args.cache_dtype,
    }
    if args.dry_run:
        return _estimate(args, out, model, data, (plan, pipeline), training)
    resume = "force" if args.force else args.resume
    with record.noted(args.run_dir, resume, recorded(args), fingerprint):
        done = tl.fine_tune(
            model,
            data,
            plan,
            pipeline,
            run_dir=args.run_dir,
            resume=resume,
            save_freq=int(args.save_freq) if args.save_freq.isdigit() else args.save_freq,
            verbose=options.verbose(),
            **training,
        )
    _print(done, out, args.json)
    return 0


def recorded(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that repeat this run elsewhere."""
    parser = argparse.ArgumentParser()
    add(parser)
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


def _plan(tl: Any, args: argparse.Namespace) -> Any:
    """A Plan, or `"auto"`."""
    wanted = {"epochs": args.epochs, "learning_rate": args.learning_rate}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    make = tl.plans.PLANS.get(args.plan)
    known = inspect.signature(make).parameters if make else ()
    for name in wanted:
        if name not in known:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} says nothing to the plan {args.plan.splitlines()[0]!r}")
    if make:
        return make(**wanted)
    return tl.Plan.from_yaml(args.plan) if "\n" in args.plan else args.plan


def _pipeline(tl: Any, augment: str) -> Any:
    return tl.augment.Pipeline.from_yaml(augment) if "\n" in augment else augment


def _estimate(
    args: argparse.Namespace,
    out: TextIO,
    model: Any,
    data: Any,
    how: tuple[Any, Any],
    training: dict[str, Any],
) -> int:
    from tltoolkit.estimate import estimate

    found = estimate(model, data, *how, **training)
    print(json.dumps(found.to_dict(), indent=2) if args.json else found, file=out)
    return 0


def _print(done: Any, out: TextIO, as_json: bool) -> None:
    best = {name: row[done.best_epoch] for name, row in done.history.items()}
    scores = {name: value for name, value in best.items() if math.isfinite(value)}
    if as_json:
        told = {"run_dir": str(done.run_dir), "best_epoch": done.best_epoch, "why": done.why}
        seconds = sum(stage.seconds for stage in done.stages)
        print(json.dumps({**told, "seconds": seconds, "scores": scores}, indent=2), file=out)
        return
    shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    print(f"{done.why}\nbest epoch {done.best_epoch + 1}: {shown}\n{done.run_dir}", file=out)
