"""The examples in the docstrings run, and every public class has one."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import tltoolkit.callbacks as callbacks

MODULES = [module.name for module in pkgutil.iter_modules(callbacks.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(f"tltoolkit.callbacks.{name}")
    result = doctest.testmod(module, extraglobs={"np": np, "keras": keras})
    assert result.failed == 0


def test_every_public_name_has_an_example():
    for name in callbacks.__all__:
        value = getattr(callbacks, name)
        if callable(value):
            assert ">>>" in value.__doc__, name
    for name, make in callbacks.schedules.SCHEDULES.items():
        assert ">>>" in make.__doc__, name
