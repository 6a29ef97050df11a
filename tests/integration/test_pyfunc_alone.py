"""Every kind of pyfunc in an environment that has what its requirements.txt lists and nothing else.

`make test` builds that environment of links to the packages at hand, followed from the listed ones; `make
soak` installs them into an empty one (several GB, minutes). No model lies where it was made.
"""

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest
from finished_runs import PARAMS, fit_detector, write_images
from mlflow.models import Model
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors.torch import save_file

from reconpatch import ReConPatch, load
from reconpatch.ensemble import fuse_members
from reconpatch.model.weights import find_weights
from reconpatch.unified.unified_detector import fit_unified
from tasks.registry.pyfunc_package import save_pyfunc

SOAK = os.environ.get("RECONPATCH_SOAK") == "1"
KINDS = ("single", "ensemble", "local weights", "unified")
_CLIENT = """
import json, socket, sys
def refuse(*_): raise OSError("the network is off")
socket.socket.connect = socket.getaddrinfo = refuse
import mlflow, pandas as pd
images = json.loads(sys.argv[2])
answers = {}
for kind, folder in json.loads(sys.argv[1]).items():
    model = mlflow.pyfunc.load_model(folder)
    answers[kind] = model.predict(pd.DataFrame({"image": [open(name, "rb").read() for name in images]}))
found = {kind: answer["score"].tolist() for kind, answer in answers.items()}
import importlib.util as u, reconpatch
there = [name for name in ("prefect", "dvc", "great_expectations", "pytest") if u.find_spec(name)]
print(json.dumps({"scores": found, "there": there, "library": reconpatch.__file__}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], list[str]]:
    """kind -> detector folder, and images."""
    root = tmp_path_factory.mktemp("made")
    images = write_images(root / "nut")
    found = {"single": fit_detector(images, root / "single")}
    paths = sorted((images / "train" / "good").iterdir())
    small = PARAMS | {"modulation.enabled": False}
    members = [
        ReConPatch(name, params=small).fit(paths)
        for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite1")
    ]
    ensemble = fuse_members(members, [member.held_out_features(paths) for member in members])
    ensemble.save(found.setdefault("ensemble", root / "ensemble"))
    file = root / "own.safetensors"
    save_file(
        {k: v.contiguous() for k, v in find_weights("tf_efficientnet_lite0", None).tensors.items()}, file
    )
    local = ReConPatch(params=small | {"features.weights": str(file)}).fit(paths)
    local.save(found.setdefault("local weights", root / "local"))
    halves = {"left": paths[:4], "right": paths[4:]}
    unified = fit_unified(halves, ReConPatch(params=small | {"features.weights": str(file)}))
    unified.save(found.setdefault("unified", root / "unified"))
    return found, [str(path) for path in sorted((images / "test" / "good").iterdir())]


def _closure(requirements: list[str]) -> list[metadata.Distribution]:
    """Distributions that requirements bring along."""
    seen: dict[tuple[str, tuple[str, ...]], metadata.Distribution] = {}
    todo = [Requirement(text) for text in requirements]
    while todo:
        one = todo.pop()
        key = (canonicalize_name(one.name), tuple(sorted(one.extras)))
        if key in seen:
            continue
        found = metadata.distribution(one.name)
        assert one.specifier.contains(found.version, prereleases=True), (one, found.version)
        seen[key] = found
        for text in found.requires or []:
            more = Requirement(text)
            if more.marker is None or any(
                more.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)
            ):
                todo.append(more)
    return list(seen.values())


def _link(distribution: metadata.Distribution, site: Path) -> None:
    source = Path(sysconfig.get_paths()["purelib"])
    for file in distribution.files or []:
        if file.parts[0] == ".." or "__pycache__" in file.parts:
            continue
        target = site / file
        if not target.exists() and (source / file).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source / file)


@pytest.mark.slow
def test_every_kind_loads_in_a_clean_environment_elsewhere_without_pickle_and_network(
    made: tuple[dict[str, Path], list[str]], tmp_path: Path
) -> None:
    detectors, images = made
    assert tuple(detectors) == KINDS
    expected = {
        kind: [one.score for one in load(folder, threads=1).predict(images)]
        for kind, folder in detectors.items()
    }
    models, listed = {}, set()
    for kind, folder in detectors.items():
        target = tmp_path / "made here" / kind
        save_pyfunc(folder, target, Model())
        models[kind] = str(shutil.move(target, tmp_path / kind.replace(" ", "-")))
        listed |= set(Path(models[kind], "requirements.txt").read_text().split())
        assert not [path for path in Path(models[kind]).rglob("*") if path.suffix in (".pkl", ".pickle")]
    for folder in detectors.values():  # what travels must not look back
        shutil.rmtree(folder)
    (detectors["single"].parent / "own.safetensors").unlink()

    place = tmp_path / "venv"
    venv.create(place, with_pip=SOAK)
    python = place / "bin" / "python"
    if SOAK:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *sorted(listed)], check=True)
    else:
        site = next((place / "lib").glob("python*/site-packages"))
        for distribution in _closure(sorted(listed)):
            _link(distribution, site)
    (tmp_path / "elsewhere").mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-c", _CLIENT, json.dumps(models), json.dumps(images)],
        cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["there"] == []
    assert str(tmp_path) in answer["library"]
    for kind, scores in expected.items():
        assert answer["scores"][kind] == pytest.approx(scores, abs=1e-4), kind
