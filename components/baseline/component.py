"""KFP interface of the baseline room."""

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def find_baseline(
    results: dsl.Input[dsl.Dataset],
    history: dsl.Output[dsl.Artifact],
    model_name: str,
    baseline_store: str = "",
    namespace: str = "default",
    runs: int = 20,
) -> None:
    """Finds earlier passing runs that this one may be compared with.

    Args:
        results: The requests of this run; their metadata says under which key to look.
        history: The runs found, newest first, as JSON.
        model_name: The model's name.
        baseline_store: The store's address; empty for none.
        namespace: Part of the key.
        runs: How many runs to find at most.
    """


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def record_baseline(
    metrics: dsl.Input[dsl.Metrics],
    report: dsl.Input[dsl.Artifact],
    model_name: str,
    baseline_store: str = "",
    namespace: str = "default",
    model_version: str = "",
) -> None:
    """Records a passing run, so that later runs find it.

    Args:
        metrics: The gate's numbers; in a cluster the artifact that KFP has recorded already.
        report: report.json, as `compare_to_baseline` wrote it.
        model_name: The model's name.
        baseline_store: The store's address; empty for none.
        namespace: Part of the key.
        model_version: The candidate's version.
    """
