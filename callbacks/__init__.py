"""Keras callbacks and learning-rate schedules that need nothing else of the toolkit."""

if __name__ != "tltoolkit.callbacks":
    # A second copy under the bare name would register its classes with Keras twice.
    raise ImportError("import it as `tltoolkit.callbacks`: pip install tltoolkit")
