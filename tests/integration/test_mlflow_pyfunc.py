import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from finished_runs import PipelineRun, fit_detector, write_images
from waiting import PATIENCE, wait_for

from reconpatch import load
from reconpatch.errors import ModelError
from reconpatch.integrations.mlflow_uri import download_detector
from tasks.registry.mlflow_store import fetch_detector
from tasks.registry.register import register_run

CHAMPION = "models:/reconpatch-tiny-nut@champion"

# Scores images by path and by bytes and prints both, as JSON; runs in a folder and a process that know
# nothing of the project.
_CLIENT = """
import json, sys
import mlflow, pandas as pd
images = json.loads(sys.argv[2])
model = mlflow.pyfunc.load_model(sys.argv[1])
import reconpatch
by_path = model.predict(pd.DataFrame({"path": images}))
by_bytes = model.predict(pd.DataFrame({"image": [open(name, "rb").read() for name in images]}))
answers = {"path": by_path.to_dict("list"), "image": by_bytes.to_dict("list"), "library": reconpatch.__file__}
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def registered(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    """A project whose store holds one registered detector."""
    root = tmp_path_factory.mktemp("project")
    images = write_images(root / "data" / "nut")
    shutil.copy(mlflow_template, root / "mlflow.db")
    run = PipelineRun(root, fit_detector(images, root / "detector"), images)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        register_run(run.settings(), [run.finish()])
    return run


@pytest.fixture
def environment(registered: PipelineRun) -> dict[str, str]:
    """Of a process that loads models: the store, no pickles, no source tree."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{registered.root / 'mlflow.db'}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "PATH": path,
    }
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | ours


def _test_images(run: PipelineRun) -> list[str]:
    return [str(path) for path in sorted((run.images / "test" / "good").iterdir())]


@pytest.fixture
def named_store(registered: PipelineRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.root / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    # What this process would have imported, had it served a model before.
    monkeypatch.delitem(sys.modules, "mlflow.pyfunc.scoring_server", raising=False)


def test_a_fresh_process_elsewhere_scores_as_the_detector_does_with_the_library_of_the_model(
    registered: PipelineRun, environment: dict[str, str], tmp_path: Path
) -> None:
    images = _test_images(registered)
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, CHAMPION, json.dumps(images)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    expected = load(registered.detector, threads=1).predict(images)
    for column in ("path", "image"):
        assert answers[column]["score"] == pytest.approx([one.score for one in expected], abs=1e-5)
        assert answers[column]["is_anomalous"] == [one.is_anomalous for one in expected]
    assert answers["path"]["path"] == images
    assert answers["library"].startswith(str(registered.root / "mlartifacts"))


@pytest.mark.usefixtures("named_store")
def test_a_path_beside_bytes_is_only_repeated(registered: PipelineRun) -> None:
    model = mlflow.pyfunc.load_model(CHAMPION, model_config={"allowed_root": "/nowhere"})
    data = Path(_test_images(registered)[0]).read_bytes()
    answer = model.predict(pd.DataFrame({"image": [data], "path": ["/no/such/file"]}))
    assert answer["path"].tolist() == ["/no/such/file"]


@pytest.mark.usefixtures("named_store")
@pytest.mark.parametrize("by", ["model_config", "variable"])
def test_an_allowed_root_holds_in_a_process_of_ones_own_too(
    registered: PipelineRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    config = {"allowed_root": str(registered.images) if by == "model_config" else "/"}
    if by == "variable":
        monkeypatch.setenv("RECONPATCH_ALLOWED_ROOT", str(registered.images))
    model = mlflow.pyfunc.load_model(CHAMPION, model_config=config)
    inside = _test_images(registered)[0]
    assert len(model.predict(pd.DataFrame({"path": [inside]}))) == 1
    outside = tmp_path / "outside.png"
    shutil.copy(inside, outside)
    link = registered.images / f"{by}.png"
    link.symlink_to(outside)
    dotted = f"{registered.images}/{os.path.relpath(outside, registered.images)}"
    for path in (str(outside), dotted, str(link)):
        assert Path(path).is_file()
        with pytest.raises(mlflow.MlflowException, match="does not lie under the allowed root"):
            model.predict(pd.DataFrame({"path": [inside, path]}))


@pytest.mark.usefixtures("named_store")
def test_where_a_server_runs_no_path_is_read(
    registered: PipelineRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mlflow.pyfunc.load_model(CHAMPION)
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc.scoring_server", mlflow)
    with pytest.raises(mlflow.MlflowException, match="this server reads no paths"):
        model.predict(pd.DataFrame({"path": _test_images(registered)}))


@pytest.mark.usefixtures("named_store")
def test_what_is_no_image_or_no_known_column_is_one_clear_error(registered: PipelineRun) -> None:
    model = mlflow.pyfunc.load_model(CHAMPION)
    for frame, message in (
        ({"image": [b"no image"]}, "row 0: holds no image"),
        ({"image": [b""]}, "row 0"),
        ({"path": [str(registered.detector / "config.json")]}, "config.json: holds no image"),
        ({"path": [None]}, "row 0: `path` is empty"),
        ({"picture": ["x"]}, "a column `image`"),
    ):
        with pytest.raises(mlflow.MlflowException, match=message):
            model.predict(pd.DataFrame(frame))


def test_the_model_folder_holds_the_library_and_nothing_pickled(registered: PipelineRun) -> None:
    (folder,) = (path.parent for path in (registered.root / "mlartifacts").rglob("MLmodel"))
    assert {path.name for path in (folder / "code").iterdir()} == {"reconpatch"}
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pyc")]
    wanted = (folder / "requirements.txt").read_text().split()
    assert any(line.startswith("torch==") for line in wanted)
    assert any(line.startswith("mlflow==") for line in wanted)
    assert not any(line.startswith(("prefect", "dvc", "great")) for line in wanted)


@pytest.fixture
def server(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """Address of a server of the champion, started as an operator would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            ["mlflow", "models", "serve", "-m", CHAMPION, "--env-manager", "local", "-h", "127.0.0.1",
             "-p", str(port), "--workers", "1"],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(address, process, tmp_path / "server.log")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=60).close()  # noqa: S310
        except OSError:
            return False
        return True

    wait_for("mlflow models serve", answers)


def _invoke(address: str, column: str, value: str) -> tuple[int, dict]:
    body = json.dumps({"dataframe_split": {"columns": [column], "data": [[value]]}}).encode()
    request = urllib.request.Request(  # noqa: S310
        f"{address}/invocations", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
@pytest.mark.server
def test_a_real_server_scores_bytes_and_reads_no_path(registered: PipelineRun, server: str) -> None:
    image = _test_images(registered)[0]
    (expected,) = load(registered.detector, threads=1).predict([image])
    status, answer = _invoke(server, "image", base64.b64encode(Path(image).read_bytes()).decode())
    assert status == 200, answer
    assert answer["predictions"][0]["score"] == pytest.approx(expected.score, abs=1e-5)
    assert answer["predictions"][0]["is_anomalous"] is expected.is_anomalous
    status, answer = _invoke(server, "path", image)
    assert (status, "reads no paths" in answer["message"]) == (400, True)


@pytest.mark.usefixtures("named_store")
@pytest.mark.parametrize("uri", [CHAMPION, "models:/reconpatch-tiny-nut/1"])
def test_a_registry_uri_loads_as_the_folder_does(registered: PipelineRun, uri: str) -> None:
    images = _test_images(registered)
    by_uri = [one.score for one in load(uri, threads=1).predict(images)]
    assert by_uri == [one.score for one in load(registered.detector, threads=1).predict(images)]


@pytest.mark.usefixtures("named_store")
@pytest.mark.parametrize(
    "uri", ["models:/reconpatch-tiny-nut@nobody", "models:/nothing/1", "models:/reconpatch-tiny-nut/7"]
)
def test_an_unknown_alias_model_or_version_is_one_clear_error(uri: str) -> None:
    with pytest.raises(ModelError, match="MLFLOW_TRACKING_URI") as caught:
        download_detector(uri)
    assert str(caught.value).startswith(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("named_store")
def test_a_model_that_is_not_ours_is_refused(registered: PipelineRun, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    client = registered.client
    client.create_registered_model("stranger")
    client.create_model_version("stranger", str(tmp_path))
    with pytest.raises(ModelError, match=r"models:/stranger/1"):
        download_detector("models:/stranger/1")


@pytest.mark.usefixtures("named_store")
@pytest.mark.parametrize("how", ["path", "absolute", "link", "link to a file"])
def test_files_outside_a_version_are_never_copied(
    registered: PipelineRun, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, secret = tmp_path / "version", tmp_path / "secret"
    (version / "artifacts").mkdir(parents=True)
    shutil.copytree(registered.detector, secret)
    place = {"path": "../secret", "absolute": str(secret)}.get(how, "artifacts/detector")
    if how == "link":
        (version / "artifacts" / "detector").symlink_to(secret)
    elif how == "link to a file":
        shutil.copytree(secret, version / "artifacts" / "detector")
        (version / "artifacts" / "detector" / "more").symlink_to(secret / "config.json")
    flavor = {"artifacts": {"detector": {"path": place}}, "loader_module": "reconpatch"}
    (version / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavor}}))
    client, name = registered.client, f"outside-{how}".replace(" ", "-")
    client.create_registered_model(name)
    client.create_model_version(name, str(version))
    with pytest.raises(ModelError, match="outside the version's own folder"):
        download_detector(f"models:/{name}/1", tmp_path / "downloaded")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ModelError, match="outside the version's own folder"):
        fetch_detector(name, "1", tmp_path / "fetched", registered.settings(), registered.root)
    assert not (tmp_path / "fetched").exists()
    assert not list((tmp_path / "downloaded").rglob("*"))


def test_without_a_store_the_error_names_the_variable_and_no_database_appears(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    code = (
        "from reconpatch.errors import ModelError\n"
        "from reconpatch.integrations.mlflow_uri import download_detector\n"
        f"try: download_detector({CHAMPION!r})\n"
        "except ModelError as error: print(error)"
    )
    bare = {key: value for key, value in environment.items() if key != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=bare, capture_output=True, text=True, check=True
    )
    assert "set MLFLOW_TRACKING_URI" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("named_store")
def test_the_answer_has_the_columns_and_types_of_the_signature(registered: PipelineRun) -> None:
    model = mlflow.pyfunc.load_model(CHAMPION)
    answer = model.predict(pd.DataFrame({"path": _test_images(registered)}))
    assert list(answer.columns) == [column.name for column in model.metadata.signature.outputs.inputs]
    assert str(answer["score"].dtype) == "float64"
    assert [column.name for column in model.metadata.signature.inputs.inputs] == ["image", "path"]
