"""KFP components that stand between the gate and TFX's tasks."""

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def bless_model(
    blessing: dsl.Output[dsl.Artifact],
    verdict: str,
    on_inconclusive: str = "fail",
    on_no_baseline: str = "warn",
) -> None:
    """Says in TFX's words whether the model may be pushed.

    Args:
        blessing: What TFX's Pusher takes as infra_blessing.
        verdict: The gate's verdict.
        on_inconclusive: fail, warn or pass.
        on_no_baseline: fail, warn or pass.
    """
    from pathlib import Path

    from model_load_test.components.tfx.blessing import bless

    blessing.metadata.update(
        bless(
            Path(blessing.path),
            verdict,
            {"on_inconclusive": on_inconclusive, "on_no_baseline": on_no_baseline},
        )
    )


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def bless_validated_model(
    infra_blessing: dsl.Input[dsl.Artifact],
    blessing: dsl.Output[dsl.Artifact],
    verdict: str,
    on_inconclusive: str = "fail",
    on_no_baseline: str = "warn",
) -> None:
    """Says in TFX's words whether the model may be pushed: if InfraValidator and the gate both say so.

    Args:
        infra_blessing: InfraValidator's answer.
        blessing: What TFX's Pusher takes as infra_blessing.
        verdict: The gate's verdict.
        on_inconclusive: fail, warn or pass.
        on_no_baseline: fail, warn or pass.
    """
    from pathlib import Path

    from model_load_test.components.tfx.blessing import bless

    blessing.metadata.update(
        bless(
            Path(blessing.path),
            verdict,
            {"on_inconclusive": on_inconclusive, "on_no_baseline": on_no_baseline},
            validated=infra_blessing.metadata,
            validated_folder=Path(infra_blessing.path),
        )
    )


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def find_saved_model(model: dsl.Input[dsl.Artifact]) -> str:
    """Finds the SavedModel within what TFX's Trainer made.

    Args:
        model: TFX's Model.

    Returns:
        Its URI, which a server can load it from.
    """
    from pathlib import Path

    from model_load_test.components.tfx.blessing import saved_model_within

    return saved_model_within(model.uri, Path(model.path))
