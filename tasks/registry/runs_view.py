"""The runs of an experiment as the MLflow UI should show them: by category, the best first.

MLflow keeps a view that is shared by link in a tag of the experiment. Left alone its table of runs shows no
figure, and hides the detectors in their parent runs.
"""

import json

from reconpatch.evaluation.metrics.registry import headlines
from tasks.registry.mlflow_store import Experiment

_KEY = "by-category"
_TAG = f"mlflow.sharedViewState.{_KEY}"
_METRICS = (*headlines(), "seconds_per_image")
_PARAMS = ("features.image_size", "coreset.ratio", "modulation.dim", "modulation.steps")


def publish_view(experiment: Experiment, metric: str) -> None:
    """Write the view's tag, where it says something else.

    Args:
        experiment: whose runs.
        metric: name of the figure that the best have most of.
    """
    state = json.dumps(_state(metric))
    if experiment.client.get_experiment(experiment.id).tags.get(_TAG) != state:
        experiment.client.set_experiment_tag(experiment.id, _TAG, state)


def view_link(experiment_id: str) -> str:
    """Where the UI shows it, relative to the server's address."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={_KEY}"


def _state(metric: str) -> dict[str, object]:
    """As MLflow's page of runs keeps its own state, in plain JSON."""
    shown = dict.fromkeys([*_METRICS, metric])
    columns = ["attributes.`Models`", *(f"metrics.`{name}`" for name in shown)]
    return {
        "searchFilter": "tags.category != ''",  # detectors, not the parents that hold a pipeline run together
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [*columns, *(f"params.`{name}`" for name in _PARAMS)],
        "groupBy": {
            "aggregateFunction": "max",
            "groupByKeys": [{"mode": "tag", "groupByData": "category"}],
        },
    }
