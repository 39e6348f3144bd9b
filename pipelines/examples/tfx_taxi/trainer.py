"""TFX's Trainer calls `run_fn`: a logistic regression on three numbers of a taxi trip."""

from __future__ import annotations

from typing import Any, Final

FEATURES: Final = ("trip_miles", "trip_seconds", "fare")
LABEL: Final = "tips"
GOOD_TIP: Final = 0.2
"""A tip is good from this share of the fare."""

_STEPS: Final = 200
_LEARNING_RATE: Final = 0.05


def run_fn(fn_args: Any) -> None:
    """Trains on `fn_args.train_files` and saves a SavedModel to `fn_args.serving_model_dir`."""
    import tensorflow as tf

    columns = _columns(tf, fn_args.train_files)
    inputs = tf.stack([columns[name] for name in FEATURES], axis=1)
    means, deviations = tf.reduce_mean(inputs, axis=0), tf.math.reduce_std(inputs, axis=0) + 1e-6
    labels = tf.cast(columns[LABEL] > GOOD_TIP * columns["fare"], tf.float32)
    weights, bias = tf.Variable(tf.zeros(len(FEATURES))), tf.Variable(0.0)
    for _ in range(_STEPS):
        with tf.GradientTape() as tape:
            logits = tf.linalg.matvec((inputs - means) / deviations, weights) + bias
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
        for variable, gradient in zip((weights, bias), tape.gradient(loss, (weights, bias)), strict=True):
            variable.assign_sub(_LEARNING_RATE * gradient)

    model = tf.Module()
    model.weights, model.bias = weights, bias

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def serve(examples: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(examples, _specs(tf, FEATURES))
        rows = tf.stack([parsed[name] for name in FEATURES], axis=1)
        return {"tips_well": tf.sigmoid(tf.linalg.matvec((rows - means) / deviations, weights) + bias)}

    model.serve = serve
    tf.saved_model.save(model, fn_args.serving_model_dir, signatures={"serving_default": serve})


def _columns(tf: Any, patterns: list[str]) -> Any:
    files = tf.io.gfile.glob(patterns)
    serialized = list(tf.data.TFRecordDataset(files, compression_type="GZIP"))
    return tf.io.parse_example(tf.stack(serialized), _specs(tf, (*FEATURES, LABEL)))


def _specs(tf: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: tf.io.FixedLenFeature([], tf.float32, default_value=0.0) for name in names}
