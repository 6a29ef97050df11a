"""The folder mlflow/ is configuration and must not stand in for the package of that name."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from mlflow.server.security_utils import is_allowed_host_header

ROOT = Path(__file__).resolve().parents[2]


def test_the_folder_is_no_package() -> None:
    assert not (ROOT / "mlflow" / "__init__.py").exists()
    assert not (ROOT / "mlflow.py").exists()


def test_the_package_is_found_from_the_root() -> None:
    code = "import importlib.util as u; print(u.find_spec('mlflow').origin)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).parts[-3:] == ("site-packages", "mlflow", "__init__.py")


def test_the_server_of_a_team_answers_the_watcher_in_containers() -> None:
    settings = dict(
        line.split("=", 1)
        for line in (ROOT / "mlflow" / "team.env").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    services = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())["services"]
    host = urlsplit(services["watcher"]["environment"]["MLFLOW_TRACKING_URI"]).netloc
    allowed = settings["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert is_allowed_host_header(allowed, host)
    assert not is_allowed_host_header(allowed, "stranger:5000")
