"""Image augmentation and feeding that need nothing else of the toolkit."""

if __name__ != "tltoolkit.augment":
    # A second copy under the bare name would register its classes with Keras twice.
    raise ImportError("import it as `tltoolkit.augment`: pip install tltoolkit")
