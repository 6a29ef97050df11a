"""The team's server for real: PostgreSQL, an S3 endpoint, accounts, aliases moved in its UI, a backup."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import pytest
from finished_runs import PipelineRun, fit_detector, write_images
from mlflow import MlflowClient
from processes import free_port, running
from waiting import PATIENCE, wait_for

from reconpatch import ReConPatch
from reconpatch.integrations.mlflow_uri import registered_version
from tasks.registry.promotion import read_log
from tasks.registry.register import register_run

ROOT = Path(__file__).resolve().parents[2]
NAME = "reconpatch-tiny-nut"
PASSWORD = "long-enough-1"
EVERY = 1.0


@dataclass(frozen=True)
class Team:
    """A running server.

    Attributes:
        url: of it.
        environment: of the processes beside it, such as its backup.
        run: a project whose flows write to it.
        s3: client of the file store.
    """

    url: str
    environment: dict[str, str]
    run: PipelineRun
    s3: object

    def ask(self, method: str, path: str, user: str = "admin", **given: object) -> httpx.Response:
        """A request as the UI makes it."""
        given.setdefault("auth", (user, PASSWORD))
        return httpx.request(method, f"{self.url}{path}", timeout=PATIENCE, **given)

    def files(self, bucket: str) -> dict[str, int]:
        """Sizes of what a bucket holds."""
        listed = self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {item["Key"]: item["Size"] for item in listed}


@pytest.fixture(scope="module")
def postgres(postgresql: Path) -> Iterator[str]:
    """A cluster of its own; the address without a database."""
    # The server refuses to run as root, and its account must be able to enter the folder.
    as_account = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="reconpatch-postgres-"))
    if as_account:
        shutil.chown(folder, "postgres")
    (folder / "password").write_text("secret")
    port = free_port()

    def run(program: str, *arguments: str) -> None:
        command = [*as_account, str(postgresql / program), *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-N")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://mlflow:secret@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _sql(address: str, statement: str) -> None:
    subprocess.run(
        ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, f"{address}/postgres"], check=True
    )


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 endpoint."""
    port, log = free_port(), tmp_path_factory.mktemp("s3") / "log"
    program = str(Path(sys.executable).with_name("moto_server"))
    with running(log, program, "-H", "127.0.0.1", "-p", str(port)):
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{url}/moto-api/data.json").is_success
            except httpx.TransportError:
                return False

        wait_for("moto's server", answers)
        yield url


def _configure(folder: Path, **values: str) -> Path:
    """mlflow/team.env with the operator's own values; each must be one that the file has."""
    text = (ROOT / "mlflow" / "team.env").read_text()
    for key, value in values.items():
        text, replaced = re.subn(rf"(?m)^{key}=.*$", f"{key}={value}", text)
        assert replaced == 1, key
    (folder / "team.env").write_text(text)
    return folder / "team.env"


@pytest.fixture(scope="module")
def team(postgres: str, s3: str, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    project = folder / "project"
    shutil.copytree(sources, project)
    shutil.copy(ROOT / "params.yaml", project)
    for database in ("mlflow", "mlflow_accounts"):
        _sql(postgres, f"CREATE DATABASE {database}")
    keys = {"aws_access_key_id": "mlflow", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3, **keys)
    client.create_bucket(Bucket="mlflow")
    accounts = (ROOT / "mlflow" / "basic_auth.ini").read_text()
    example = "postgresql://mlflow:change-me@127.0.0.1:5432"
    assert example in accounts
    (folder / "basic_auth.ini").write_text(accounts.replace(example, postgres))
    port = free_port()
    file = _configure(
        folder,
        MLFLOW_PORT=str(port),
        MLFLOW_WORKERS="1",
        MLFLOW_BACKEND_STORE_URI=f"{postgres}/mlflow",
        MLFLOW_S3_ENDPOINT_URL=s3,
        AWS_SECRET_ACCESS_KEY="secret",
        MLFLOW_AUTH_CONFIG_PATH=str(folder / "basic_auth.ini"),
        MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD,
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hidden = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "PREFECT_API_URL")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"PATH": path}
    command = f"set -a; . {file}; set +a; exec mlflow server --app-name basic-auth"
    images = write_images(folder / "nut")
    run = PipelineRun(project, fit_detector(images, folder / "detector"), images)
    with running(folder / "server.log", "bash", "-c", command, cwd=folder, env=environment) as server:
        made = Team(f"http://127.0.0.1:{port}", environment | _stated(file), run, client)

        def answers() -> bool:
            assert server.poll() is None, (folder / "server.log").read_text()
            try:
                return made.ask("GET", "/health").is_success
            except httpx.TransportError:
                return False

        wait_for("the server", answers)
        yield made


def _stated(file: Path) -> dict[str, str]:
    return dict(re.findall(r"(?m)^(\w+)=(.*)$", file.read_text()))


@pytest.fixture
def as_pipeline(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process as a machine of the team: it knows the server and an account, and no key of the store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team.url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


@pytest.mark.server
@pytest.mark.slow
def test_strangers_and_strange_hosts_stay_out(team: Team) -> None:
    listing = "/api/2.0/mlflow/registered-models/search"
    assert team.ask("GET", listing, auth=None).status_code == 401
    assert team.ask("GET", listing, auth=("admin", "guessed")).status_code == 401
    assert team.ask("GET", listing, headers={"Host": "evil.example"}).status_code == 403
    assert team.ask("GET", listing, headers={"Host": "factory-pc:5000"}).status_code == 200


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.usefixtures("as_pipeline")
def test_registered_moved_in_the_ui_seen_logged_loaded_saved_and_restored(
    team: Team, postgres: str, tmp_path: Path
) -> None:
    run, settings = team.run, team.run.settings()
    place = {"settings": settings, "project": run.root}
    first = register_run(settings, [run.finish(image_auroc=0.8)])[0]
    assert first.aliases == ("challenger", "champion")
    assert sum(name.endswith("bank.safetensors") for name in team.files("mlflow")) == 1
    client = MlflowClient()
    known = client.get_model_version(NAME, "1")
    model_id = known.source.split("/")[-2]
    given = {"run_id": known.run_id, "tags": known.tags, "model_id": model_id}
    again = client.create_model_version(NAME, known.source, **given)
    assert str(again.version) == "2"
    assert not (run.root / "mlflow.db").exists()

    made = {"username": "ada", "password": PASSWORD}
    assert team.ask("POST", "/api/2.0/mlflow/users/create", json=made).is_success
    move = {"name": NAME, "alias": "champion", "version": "2"}
    route = "/ajax-api/2.0/mlflow/registered-models/alias"
    assert team.ask("POST", route, "ada", json=move).status_code == 403  # READ is not enough to promote
    given = {"username": "ada", "permission": "MANAGE"}
    given |= {"resource_type": "registered_model", "resource_id": NAME}
    granted = team.ask("POST", "/api/3.0/mlflow/users/permissions/grant", json=given)
    assert granted.is_success, granted.text

    beside = team.environment | {key: os.environ[key] for key in os.environ if key.startswith("MLFLOW_TRACK")}
    watcher = [sys.executable, "-m", "flows.promote", "--watch", "--every", str(EVERY)]
    with running(tmp_path / "log", *watcher, cwd=run.root, env=beside):
        wait_for("the watcher", lambda: "watching" in (tmp_path / "log").read_text())
        assert team.ask("POST", route, "ada", json=move).is_success
        print("seen after", wait_for("the move", lambda: len(read_log(NAME, **place)) == 2))
        wait_for("its end", lambda: read_log(NAME, **place)[-1].is_done)
    event = read_log(NAME, **place)[-1].event
    assert (event.kind, event.from_version, event.to_version, event.who) == ("ui", "1", "2", "unknown (UI)")
    assert registered_version(f"models:/{NAME}@champion") == f"{NAME}/2"
    assert ReConPatch.load(f"models:/{NAME}@champion").calibration is not None

    backup = [sys.executable, str(ROOT / "mlflow" / "backup.py")]
    subprocess.run([*backup, "save", str(tmp_path / "saved")], env=team.environment, check=True)
    refused = subprocess.run(
        [*backup, "restore", str(tmp_path / "saved")], env=team.environment, check=False, capture_output=True
    )
    assert b"is not empty" in refused.stderr
    for database in ("new", "new_accounts"):
        _sql(postgres, f"CREATE DATABASE {database}")
    team.s3.create_bucket(Bucket="new")
    config = Path(team.environment["MLFLOW_AUTH_CONFIG_PATH"]).read_text()
    (tmp_path / "auth.ini").write_text(config.replace("/mlflow_accounts", "/new_accounts"))
    elsewhere = {
        "MLFLOW_BACKEND_STORE_URI": f"{postgres}/new",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://new",
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
    }
    subprocess.run(
        [*backup, "restore", str(tmp_path / "saved")], env=team.environment | elsewhere, check=True
    )
    assert team.files("new") == team.files("mlflow")
    restored = MlflowClient(f"{postgres}/new", f"{postgres}/new").get_registered_model(NAME).aliases
    assert {alias: str(version) for alias, version in restored.items()} == {
        "champion": "2", "challenger": "1", "previous": "1",
    }  # fmt: skip


@pytest.mark.slow
def test_one_machine_is_saved_and_restored(mlflow_template: Path, tmp_path: Path) -> None:
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").create_experiment("kept")
    (tmp_path / "mlartifacts" / "a").mkdir(parents=True)
    (tmp_path / "mlartifacts" / "a" / "file").write_text("bytes")
    state = f"set -a; . {ROOT / 'mlflow' / 'server.env'}; set +a; exec {sys.executable}"

    def backup(action: str) -> "subprocess.CompletedProcess[str]":
        command = f"{state} {ROOT / 'mlflow' / 'backup.py'} {action} saved"
        return subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, check=False, capture_output=True, text=True
        )

    assert backup("save").returncode == 0
    assert "is there already" in backup("save").stderr
    assert "is not empty" in backup("restore").stderr
    (tmp_path / "mlflow.db").unlink()
    shutil.rmtree(tmp_path / "mlartifacts")
    done = backup("restore")
    assert done.returncode == 0, done.stderr
    assert MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_experiment_by_name("kept") is not None
    assert (tmp_path / "mlartifacts" / "a" / "file").read_text() == "bytes"
