"""Train, gate, push: the model is pushed only if it is not slower to serve than the one in production.

The candidate's server is one that your own deployment step started; where the pipeline shall deploy
both models itself, use `deploy_and_gate` with the models' URIs.
"""

from typing import Dict, List

from kfp import dsl

from model_load_test.components.image import load_test_image
from model_load_test.pipelines import load_test_gate


@dsl.component(base_image=load_test_image(), install_kfp_package=False)  # or any image that has kfp
def train(epochs: int, model: dsl.Output[dsl.Model]) -> None:
    """Stands for your own training.

    Args:
        epochs: How long to train.
        model: The trained model.
    """
    from pathlib import Path

    Path(model.path).mkdir(parents=True)
    (Path(model.path) / "weights.txt").write_text(f"trained for {epochs} epochs\n")
    model.metadata["epochs"] = epochs


@dsl.component(base_image=load_test_image(), install_kfp_package=False)  # or any image that has kfp
def push(model: dsl.Input[dsl.Model], destination: str) -> None:
    """Stands for your own push.

    Args:
        model: The model that passed.
        destination: Folder to push to.
    """
    import shutil
    from pathlib import Path

    shutil.copytree(model.path, Path(destination) / "model", dirs_exist_ok=True)


@dsl.pipeline(name="train-gate-push")
def train_gate_push(
    candidate_endpoint: str,
    baseline_endpoint: str,
    destination: str,
    model_name: str = "digits",
    epochs: int = 3,
    looks: List[int] = [10, 15, 20, 30, 60],
    block_seconds: float = 0.0,
    margins: Dict[str, float] = {},
) -> None:
    """Trains, compares candidate and baseline under load, pushes after PASS.

    Args:
        candidate_endpoint: The new model's server.
        baseline_endpoint: The server of the model in production.
        destination: Where to push to.
        model_name: The model's name on the servers.
        epochs: How long to train.
        looks: Numbers of pairs after which the load may stop.
        block_seconds: Length of the compared blocks; 0 for the default.
        margins: Allowed excess per metric.
    """
    trained = train(epochs=epochs)
    gate = load_test_gate(
        candidate_endpoint=candidate_endpoint,
        baseline_endpoint=baseline_endpoint,
        model_name=model_name,
        looks=looks,
        block_seconds=block_seconds,
        margins=margins,
    ).after(trained)
    push(model=trained.outputs["model"], destination=destination).after(gate)
