"""No tool phones home: the one list of switches, set before our code imports any of them."""

import os

SWITCHES = {
    # MLflow knows only the word "true" here, not "1".
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Not set to nothing, MLflow looks for its list of language models on the network.
    "MLFLOW_MODEL_CATALOG_URI": "",
    # The Prefect server has a switch of its own.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
}


def switch_off() -> None:
    """Set in this process's environment, and so in its children's, what the user has not set."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
