"""Every night: how much can production take, and does that still leave the headroom that was planned?

Schedule it as a recurring run, in the Kubeflow UI or with `kfp.Client.create_recurring_run`.
"""

from typing import List

from kfp import dsl

from model_load_test.components.image import load_test_image
from model_load_test.pipelines import capacity_search


@dsl.component(base_image=load_test_image(), install_kfp_package=False)  # or any image that has kfp
def require_capacity(confirmed: float, wanted_rps: float) -> None:
    """Fails the run when production could not take what it must.

    Args:
        confirmed: The load at which the objectives were shown to hold.
        wanted_rps: The load it must take.
    """
    if confirmed < wanted_rps:
        raise SystemExit(f"confirmed {confirmed:g} requests/s, wanted are {wanted_rps:g}: add replicas")


@dsl.pipeline(name="nightly-capacity")
def nightly_capacity(
    endpoint: str = "grpc://digits.serving.svc:8500",
    model_name: str = "digits",
    objectives: List[str] = ["p99_ms<=50", "error_rate<=0.001"],
    wanted_rps: float = 500.0,
    highest: float = 2000.0,
) -> None:
    """Searches the capacity of the server and compares it with what is wanted.

    Args:
        endpoint: The server in production, or better a replica of it without traffic.
        model_name: The model's name on the server.
        objectives: What must hold.
        wanted_rps: The load it must take.
        highest: The highest load to try.
    """
    found = capacity_search(
        candidate_endpoint=endpoint, model_name=model_name, objectives=objectives, highest=highest
    )
    require_capacity(confirmed=found.outputs["confirmed"], wanted_rps=wanted_rps)
