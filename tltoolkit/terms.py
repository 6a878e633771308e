"""The names that a stage is told by, apart from Keras, so that plans are read without it."""

RECALIBRATE = "recalibrate"
BATCH_NORMS = ("frozen", "train", RECALIBRATE)
SCHEDULES = ("cosine", "constant")
# Each has its class in `tltoolkit.optimizers`.
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "adagrad", "adadelta")
