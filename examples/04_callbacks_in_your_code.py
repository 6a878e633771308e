"""Callbacks of tltoolkit on a plain Keras CNN, with nothing else of the toolkit.

Command:  python examples/04_callbacks_in_your_code.py [--run-dir DIR]
Time:     about 35 s on two busy CPU cores
Expected: the reason why training stopped, a table of the layers, and a test accuracy of about
          0.97 on scikit-learn's digits. Kill it and start it again with the same --run-dir,
          and it goes on where it was.
"""

import argparse
import tempfile

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tltoolkit.callbacks import (
    EarlyStopping,
    LearningRateDecay,
    MomentumSchedule,
    ReduceLROnPlateau,
    Resume,
    ScheduledSpatialDropout2D,
    SpatialDropoutSchedule,
    TrainingMonitor,
    ValidationMetrics,
    schedules,
)

EPOCHS = 20


def digits() -> list[np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 8, 8, 1).astype("float32")
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=360, stratify=labels, random_state=0
    )
    train_x, val_x, train_y, val_y = train_test_split(
        train_x, train_y, test_size=300, stratify=train_y, random_state=0
    )
    return [train_x, train_y, val_x, val_y, test_x, test_y]


def cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, activation="relu", padding="same", name="conv1"),
            ScheduledSpatialDropout2D(0.0),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu", padding="same", name="conv2"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax", name="classes"),
        ]
    )


def main(run_dir: str) -> None:
    keras.utils.set_random_seed(0)
    train_x, train_y, val_x, val_y, test_x, test_y = digits()
    steps = EPOCHS * -(-len(train_x) // 32)
    model = cnn()
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    # One cycle: the momentum falls while the learning rate climbs.
    rate = LearningRateDecay(schedules.one_cycle(0.2, steps), by="step")
    momentum = MomentumSchedule(
        schedules.one_cycle(0.85, steps, initial=0.95, final=0.95), by="step"
    )
    dropout = SpatialDropoutSchedule(lambda epoch: 0.2 * epoch / EPOCHS)
    plateau = ReduceLROnPlateau("val_f1_macro", factor=0.5, patience=3)
    stop = EarlyStopping(
        "val_f1_macro", patience=4, extra_epochs=3, smooth=2, restore_best_weights=True
    )
    monitor = TrainingMonitor((train_x[:64], train_y[:64]))
    resume = Resume(run_dir, [rate, plateau, stop, monitor])
    model.fit(
        train_x,
        train_y,
        epochs=EPOCHS,
        batch_size=32,
        verbose=2,
        validation_data=(val_x, val_y),
        # ValidationMetrics may stand anywhere; Resume comes last.
        callbacks=[rate, momentum, dropout, plateau, stop, ValidationMetrics(), monitor, resume],
    )
    print("\n" + stop.reason)
    print("\n".join(monitor.advice[-3:]))
    print(monitor.table())
    accuracy = model.evaluate(test_x, test_y, verbose=0, return_dict=True)["accuracy"]
    print(f"\ntest accuracy {accuracy:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", help="where checkpoints are kept until training is done")
    arguments = parser.parse_args()
    if arguments.run_dir:
        main(arguments.run_dir)
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(directory)
