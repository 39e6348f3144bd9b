"""Small real models for the demo, trained on scikit-learn's bundled digits and saved as SavedModels.

python -m model_load_test.pipelines.demo.models FOLDER
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL_NAME = "digits"
TRAINING_STEPS = 150
ROWS_PER_STEP = 128
HELD_OUT_ROWS = 297


@dataclass(frozen=True)
class Network:
    """A fully connected classifier: its name, hidden layers and the seed it is trained from."""

    name: str
    hidden_units: tuple[int, ...]
    seed: int


NETWORKS = (
    Network("production", (128, 64), seed=1),
    Network("retrained", (128, 64), seed=2),
    Network("heavier", (1536, 1536, 1536), seed=3),
)


def train_and_save(network: Network, folder: Path) -> float:
    """Trains `network` and saves it as version 1 under `folder/<name>`; returns its accuracy."""
    import numpy as np
    import tensorflow as tf
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
    train_images, train_labels = images[:-HELD_OUT_ROWS], labels[:-HELD_OUT_ROWS]
    module = _classifier(network)
    optimizer = tf.keras.optimizers.Adam(2e-3)
    rows = np.random.default_rng(network.seed)

    @tf.function
    def step(batch: Any, wanted: Any) -> None:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, module.logits(batch))
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, module.trainable_variables), module.trainable_variables, strict=True)
        )

    for _ in range(TRAINING_STEPS):
        chosen = rows.choice(len(train_images), ROWS_PER_STEP, replace=False)
        step(tf.constant(train_images[chosen]), tf.constant(train_labels[chosen]))
    tf.saved_model.save(
        module, str(folder / network.name / "1"), signatures={"serving_default": module.serve}
    )
    predicted = module.serve(tf.constant(images[-HELD_OUT_ROWS:]))["classes"].numpy()
    return float((predicted == labels[-HELD_OUT_ROWS:]).mean())


def _classifier(network: Network) -> Any:
    import tensorflow as tf

    class Classifier(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        def __init__(self) -> None:
            super().__init__()
            sizes = (64, *network.hidden_units, 10)
            self.layers = [
                (
                    tf.Variable(
                        tf.random.stateless_normal((inputs, outputs), (network.seed, number))
                        * (2 / inputs) ** 0.5
                    ),
                    tf.Variable(tf.zeros(outputs)),
                )
                for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes))
            ]

        def logits(self, images: Any) -> Any:
            values = images
            for number, (weights, bias) in enumerate(self.layers, start=1):
                values = tf.matmul(values, weights) + bias
                values = tf.nn.relu(values) if number < len(self.layers) else values
            return values

        @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name="images")])
        def serve(self, images: Any) -> Any:
            logits = self.logits(images)
            return {"scores": tf.nn.softmax(logits), "classes": tf.argmax(logits, axis=1)}

    return Classifier()


def train_all(folder: Path) -> None:
    """Trains every network of the demo, saying how good each became."""
    for network in NETWORKS:
        accuracy = train_and_save(network, folder)
        print(
            f"trained {network.name}: hidden layers {network.hidden_units}, accuracy {accuracy:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    train_all(Path(sys.argv[1]))
