import shutil

import pytest

from reconpatch.errors import ModelError, SettingsError
from reconpatch.line.server.model_source import ModelSource, parse_sources
from reconpatch.line.server.server_options import ServerOptions


def test_names_of_models(tmp_path):
    named = parse_sources(
        [
            "wall=models/brick",
            str(tmp_path / "gravel"),
            "models:/reconpatch-demo-brick@champion",
            "models:/screw/3",
        ]
    )
    assert [one.category for one in named] == ["wall", "gravel", "demo-brick", "screw"]
    assert named[0].source == "models/brick"
    assert named[2].source == "models:/reconpatch-demo-brick@champion"


@pytest.mark.parametrize(
    ("models", "reason"),
    [([], "no model"), (["a/nut", "b/nut"], "two models"), (["ä=x"], "letters"), (["=x"], "letters")],
)
def test_names_that_will_not_do(models, reason):
    with pytest.raises(SettingsError, match=reason):
        parse_sources(models)


def test_the_version_of_a_folder_is_its_content(detector_folder, tmp_path):
    copy = shutil.copytree(detector_folder, tmp_path / "copy")
    assert ModelSource("a", str(copy)).version() == ModelSource("b", str(detector_folder)).version()
    with pytest.raises(ModelError, match="no detector folder"):
        ModelSource("a", str(tmp_path / "none")).version()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "line-pc"])  # noqa: S104
def test_other_machines_need_a_key(host):
    with pytest.raises(SettingsError, match="RECONPATCH_API_KEY"):
        ServerOptions(host=host)
    with pytest.raises(SettingsError, match="at least 16"):
        ServerOptions(host=host, api_key="short")
    assert not ServerOptions(host=host, api_key="k" * 16).on_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_none(host):
    assert ServerOptions(host=host).on_loopback
