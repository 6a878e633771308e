"""The names that a stage is told by, apart from Keras, so that plans are read without it."""

RECALIBRATE = "recalibrate"
BATCH_NORMS = ("frozen", "train", RECALIBRATE)
# Not by steps: the head is solved on features that are stored. Logistic regression by L-BFGS, and
# in closed form ridge regression and linear discriminants.
LBFGS, RIDGE, LDA = "lbfgs", "ridge", "lda"
SOLVERS = (LBFGS, RIDGE, LDA)
SCHEDULES = ("cosine", "constant")
# name -> those of its arguments that not every one has; its class is in `training.optimizers`.
OPTIMIZERS = {
    "adamw": frozenset({"weight_decay"}),
    "adam": frozenset(),  # with weight decay it would be AdamW
    "sgd": frozenset({"momentum", "weight_decay"}),
    "rmsprop": frozenset({"momentum", "weight_decay"}),
    "adagrad": frozenset({"weight_decay"}),
    "adadelta": frozenset({"weight_decay"}),
}
