"""A layout is added by one file and one line: tried on a copy of the library, with the layout of raw VisA."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import reconpatch

_VISA = '''
from reconpatch.data.layouts.layout import ImagePlace, Layout, MaskPlace


class Visa(Layout):
    """Raw VisA."""

    def place(self, parts, train):
        """Normal images train, the others test."""
        if parts[:3] == ("Data", "Masks", "Anomaly"):
            return MaskPlace("/".join(("Data", "Images", *parts[2:])))
        if parts[:3] == ("Data", "Images", "Anomaly"):
            return ImagePlace("test", 1, "anomaly")
        return ImagePlace("train", 0, "good") if parts[: len(train)] == train else None


VISA = Visa(name="visa", title="VisA", signs=("Data/Images/Normal",))
'''
_TRY = """
import json, sys
from pathlib import Path
from reconpatch.data.layouts import detect_layout, find_strays, scan_category
from reconpatch.errors import ReConPatchError
from reconpatch.settings import DataSettings, load_settings

root = Path(sys.argv[1])
try:
    load_settings(overrides=["data.layout=none"])
except ReConPatchError as error:
    refused = str(error)
print(json.dumps({
    "layout": detect_layout(root),
    "images": [[one.path, one.split, one.label, one.mask_path] for one in scan_category(root, "visa")],
    "strays": {one.path: one.reason for one in find_strays(root)},
    "chosen": load_settings(overrides=["data.layout=visa"]).data.layout,
    "refused": refused,
    "help": DataSettings.model_fields["layout"].description,
}))
"""


def test_a_layout_takes_one_file_and_one_line(tmp_path: Path) -> None:
    library = tmp_path / "copy/reconpatch"
    shutil.copytree(Path(reconpatch.__path__[0]), library, ignore=shutil.ignore_patterns("__pycache__"))
    folder = library / "data/layouts"
    (folder / "visa.py").write_text(_VISA, encoding="utf-8")
    registry = folder / "layout_registry.py"
    text = registry.read_text(encoding="utf-8")
    # One entry; its import is written by `ruff check --fix` or by hand.
    text = text.replace("    PLAIN_FOLDER,\n)", "    PLAIN_FOLDER,\n    VISA,\n)")
    registry.write_text(f"from reconpatch.data.layouts.visa import VISA\n{text}", encoding="utf-8")
    candle = tmp_path / "candle"
    for path in ("Images/Normal/0.JPG", "Images/Anomaly/0.JPG", "Masks/Anomaly/0.png", "Images/1.JPG"):
        (candle / "Data" / path).parent.mkdir(parents=True, exist_ok=True)
        (candle / "Data" / path).touch()
    done = subprocess.run(
        [sys.executable, "-c", _TRY, str(candle)],
        cwd=library.parent, env={"PYTHONPATH": str(library.parent)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["layout"] == found["chosen"] == "visa"
    assert found["images"] == [
        ["Data/Images/Anomaly/0.JPG", "test", 1, "Data/Masks/Anomaly/0.png"],
        ["Data/Images/Normal/0.JPG", "train", 0, None],
    ]
    assert list(found["strays"]) == ["Data/Images/1.JPG"]
    assert "'folder' or 'visa'" in found["refused"]
    assert "visa (VisA)" in found["help"]
