"""A detector folder of a stranger: it loads, or one `ModelError` names the file; nothing hangs or grows."""

import copy
import json
import os
import resource
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reconpatch import load
from reconpatch.calibration import held_out_images
from reconpatch.calibration.calibration import calibrate_scores
from reconpatch.calibration.held_out_images import SCHEMA, held_out_table
from reconpatch.data.training_images import TrainingSet
from reconpatch.errors import ModelError
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.region import Region
from reconpatch.settings import load_settings
from reconpatch.storage.atomic_files import sha256_file
from reconpatch.storage.detector_folder import FittedParts, read_training_set, write_model
from reconpatch.storage.detector_schema import BackboneReference
from reconpatch.storage.ensemble_folder import write_ensemble
from reconpatch.training.training_loop import train_modulation
from reconpatch.unified.unified_folder import write_unified
from reconpatch.unified.unified_parts import CategoryParts, UnifiedParts

SOAK = os.environ.get("RECONPATCH_SOAK") == "1"
CHANGES = 3_000 if SOAK else 60  # of each kind of folder
# JSON that takes the place of a value.
VALUES = [
    "null", "true", "-1", "0", "1.5", "1e999", "-1e999", "NaN", "1" * 5_000, "-" + "9" * 400, str(2**63),
    '""', '"\\u0000"', '"a\\u0000b"', '"../../../etc/passwd"', '"\\ud800"', '"' + "x" * 70_000 + '"', '"/"',
    "[]", "{}", "[[]]", '{"": {}}', "[" * 150 + "]" * 150, "[" * 100_000, "[" * 100_000 + "]" * 100_000,
    '{"a":' * 10_000 + "1" + "}" * 10_000, "[" + "1," * 20_000 + "1]", '["a", 1, null]', '"config.json"',
    '"single"', '"unified"', '"ensemble"', '"pickle"', "2", "",
]  # fmt: skip
MARK = "@@the changed value@@"


def _parts(seed: int = 0) -> FittedParts:
    random = np.random.default_rng(seed)
    settings = load_settings(
        None, ["modulation.dim=6", "modulation.steps=1", "modulation.batch_size=16", "features.image_size=32"]
    )
    features = random.normal(size=(32, 4)).astype(np.float16)
    modulation = train_modulation(features, settings.modulation, seed=0, device="cpu").modulation
    digests = tuple(f"{number:064x}" for number in range(8))
    kept = held_out_table(digests[5:], digests[5:], np.ones(3), np.ones((3, 5), np.float16), {})
    calibration = calibrate_scores(random.random(30), random.random(99), random.random(30))
    pixels = np.zeros((32, 32), bool)
    pixels[4:28, 8:20] = True
    return FittedParts(
        settings,
        BackboneReference("tf_efficientnet_lite0", "0" * 64, "test"),
        modulation,
        MemoryBank(modulation.transform(features)[:5]),
        replace(calibration, held_out=kept),
        TrainingSet(digests[:5], digests[5:], 1, digests[:5], digests[5:]),
        Region(pixels),
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A valid folder of each kind."""
    root, one = tmp_path_factory.mktemp("valid"), _parts()
    assert one.calibration is not None
    write_model(root / "single", one)
    write_ensemble(root / "ensemble", [one, one], one.calibration)
    own = CategoryParts(one.bank, one.calibration, one.training_set, one.region)
    for bank in ("shared", "per_category"):
        settings = load_settings(None, {"unified.bank": bank}, base=one.settings)
        categories = {"nut": own, "bolt": own}
        unified = UnifiedParts(settings, one.backbone, one.modulation, one.bank, one.calibration, categories)
        write_unified(root / bank, unified)
    found = {path.name: path for path in root.iterdir()}
    for path in found.values():
        load(path, device="cpu", threads=1)
    return found


KINDS = ["single", "ensemble", "shared", "per_category"]


def _mend_digests(folder: Path) -> None:
    """A stranger writes digests that fit; members before the ensemble that names them."""
    for path in sorted(folder.rglob("config.json"), key=lambda path: -len(path.parts)):
        try:
            config = json.loads(path.read_text())
            named = list(config["files"].items())
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
        for name, _ in named:
            if (path.parent / name).is_file():
                config["files"][name] = sha256_file(path.parent / name)
        path.write_text(json.dumps(config))


def _places(value: object, place: tuple = ()) -> Iterator[tuple]:
    yield place
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, inner in items:
        yield from _places(inner, (*place, key))


def _changed(value: object, place: tuple, random: np.random.Generator) -> str:
    """The JSON text with one value removed, renamed or replaced."""
    text = VALUES[random.integers(len(VALUES))]
    if not place:
        return text
    changed = copy.deepcopy(value)
    holder = changed
    for key in place[:-1]:
        holder = holder[key]
    how = random.random()
    if how < 0.15:
        del holder[place[-1]]
    elif how < 0.25 and isinstance(holder, dict):
        holder["\0" + "x" * random.integers(300)] = holder.pop(place[-1])
    elif how < 0.3:
        inner = holder[place[-1]]
        holder[place[-1]] = [inner] * 3 if random.random() < 0.5 else {"a": inner}
    else:
        holder[place[-1]] = MARK
    return json.dumps(changed).replace(f'"{MARK}"', text)


def _load(folder: Path) -> str | None:
    """What the error says; None where it loads."""
    try:
        load(folder, device="cpu", threads=1)
        return None
    except ModelError as error:
        return str(error)


@contextmanager
def _changeable(path: Path, valid: Path, copied: Path) -> Iterator[Path]:
    """The place of one file in a copy of a valid folder, which is the valid one's again after the block."""
    changed = copied / path
    changed.unlink()
    try:
        yield changed
    finally:
        if changed.is_dir() and not changed.is_symlink():
            changed.rmdir()
        changed.unlink(missing_ok=True)
        for name in {path, *(config.relative_to(valid) for config in valid.rglob("config.json"))}:
            shutil.copy(valid / name, copied / name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_json_value_may_be_anything(folders, kind, tmp_path) -> None:
    random, folder = np.random.default_rng(0), folders[kind]
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.json"))
    values = {name: json.loads((folder / name).read_text()) for name in files}
    # The config is half of the tries, and its top is likelier than the end of a long list.
    refused, copied = 0, Path(shutil.copytree(folder, tmp_path / "copied"))
    for _ in range(CHANGES):
        name = Path("config.json") if random.random() < 0.5 else files[random.integers(len(files))]
        places = list(_places(values[name]))
        places = [place for place in places if len(place) <= random.integers(1, 5)]
        with _changeable(name, folder, copied) as changed:
            changed.write_text(_changed(values[name], places[random.integers(len(places))], random))
            if random.random() < 0.9:
                _mend_digests(copied)
            said = _load(copied)
            if said is not None:
                refused += 1
                assert str(copied) in said, said
                assert len(said) < 20_000
            with suppress(ModelError):
                read_training_set(copied)  # as housekeeping and retraining do, without the rest
    assert refused > CHANGES / 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_may_be_anything_and_none_is_waited_for(folders, kind, tmp_path) -> None:
    folder, copied = folders[kind], Path(shutil.copytree(folders[kind], tmp_path / "copied"))
    for number, name in enumerate(sorted(path.relative_to(folder) for path in folder.rglob("*.*"))):
        for how in ("fifo", "device", "folder", "missing", "empty", "loop", "link", "noise"):
            with _changeable(name, folder, copied) as path:
                leads_to = {"device": Path("/dev/zero"), "loop": path, "link": Path("/etc/passwd")}
                if how in leads_to:
                    path.symlink_to(leads_to[how])
                elif how == "fifo":
                    os.mkfifo(path)
                elif how == "folder":
                    path.mkdir()
                elif how == "empty":
                    path.touch()
                elif how == "noise":
                    path.write_bytes(np.random.default_rng(number).bytes(500))
                if how in ("empty", "noise"):
                    _mend_digests(copied)
                said = _load(copied)
                assert said is not None, (name, how)
                assert path.name in said, (name, how, said)
    assert _load(copied) is None  # each change was taken back


@pytest.fixture
def little_memory() -> Iterator[None]:
    """192 MiB more than the process has now: whoever takes what a file claims gets a MemoryError."""
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + (192 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.fixture
def single(folders, tmp_path) -> Path:
    return Path(shutil.copytree(folders["single"], tmp_path / "m"))


def _refused(folder: Path, *, says: str) -> None:
    _mend_digests(folder)
    with pytest.raises(ModelError, match=says):
        load(folder, device="cpu", threads=1)


@pytest.mark.usefixtures("little_memory")
def test_a_region_of_another_size_is_refused_before_it_is_drawn(single) -> None:
    for side, says in ((116_508, r"region\.json: .*side"), (16_384, r"region\.json: is for images of 16384")):
        (single / "region.json").write_text(json.dumps({"side": side, "runs": [0, side * side]}))
        _refused(single, says=says)


@pytest.mark.usefixtures("little_memory")
def test_a_header_that_claims_a_huge_tensor(single) -> None:
    def claims(shape: list[int], size: int, name: str = "vectors", kind: str = "F32") -> None:
        header = {name: {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}
        text = json.dumps(header).encode()
        with (single / "bank.safetensors").open("wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            stream.truncate(8 + len(text) + size)

    # 256 MiB of holes, which no disk keeps: a tensor of another name or type is refused before it is read.
    for shape, size, more in (
        ([1 << 40, 1 << 20], 64, {}),
        ([1 << 62, 8], 64, {}),
        ([0, 1 << 40], 0, {}),
        ([1 << 26], 1 << 28, {}),
        ([1 << 13, 1 << 13], 1 << 28, {"name": "other"}),
        ([1 << 13, 1 << 12], 1 << 28, {"kind": "F64"}),
        ([4, 4], 32, {"kind": "BF16"}),
    ):
        claims(shape, size, **more)
        _refused(single, says=r"bank\.safetensors: ")
    with (single / "bank.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", 1 << 62) + b"{}")
    _refused(single, says=r"bank\.safetensors: ")


def test_a_bank_larger_than_the_machine_is_not_read(single, monkeypatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 1 if name == "SC_PAGE_SIZE" else 100)
    with pytest.raises(ModelError, match=r"bank\.safetensors: has .* of memory"):
        MemoryBank.load(single / "bank.safetensors")


@pytest.mark.parametrize("column", SCHEMA.names)
@pytest.mark.parametrize("how", ["absent", "other type", "null"])
def test_held_out_images_without_a_column(single, column, how) -> None:
    table = pq.read_table(single / "held_out.parquet")
    place = table.column_names.index(column)
    if how == "absent":
        table = table.remove_column(place)
    else:
        values = pa.nulls(len(table), SCHEMA.field(column).type) if how == "null" else pa.array([1, 2, 3])
        table = table.set_column(place, pa.field(column, values.type), values)
    pq.write_table(table, single / "held_out.parquet")
    if how == "null" and SCHEMA.field(column).nullable:
        _mend_digests(single)
        assert load(single, device="cpu", threads=1).calibration is not None
    else:
        _refused(single, says=rf"held_out\.parquet: .*{column}")


def _absurd(table: pa.Table, how: str) -> pa.Table:
    if how == "rows":
        return pa.concat_tables([table] * 2_001)
    kind = SCHEMA.field("embedding").type
    if how == "embedding":
        values = pa.array([np.zeros(4 << 20, np.float16)], kind)
        return table.set_column(table.column_names.index("embedding"), SCHEMA.field("embedding"), values)
    # 24 MB in the file's dictionary, once for all rows.
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), ["x" * 24_000_000])
    table = pa.concat_tables([table] * 2_000).combine_chunks()
    return table.set_column(1, pa.field("group", values.type, nullable=False), values)


@pytest.mark.parametrize(
    ("how", "says"),
    [("rows", "2001 images"), ("embedding", "1 images and [0-9]+ bytes"), ("text", "group holds a text")],
)
def test_held_out_images_of_absurd_sizes(single, how, says, monkeypatch, request) -> None:
    monkeypatch.setattr(held_out_images, "_MOST_BYTES", 100 << 20 if how == "text" else 8 << 20)
    one = pq.read_table(single / "held_out.parquet").slice(0, 1)
    pq.write_table(_absurd(one, how), single / "held_out.parquet", compression="zstd", store_schema=False)
    assert (single / "held_out.parquet").stat().st_size < 1 << 20
    request.getfixturevalue("little_memory")
    _refused(single, says=rf"held_out\.parquet: .*{says}")


def test_notes_for_pandas_in_the_held_out_images_are_not_followed(single) -> None:
    table = pq.read_table(single / "held_out.parquet")
    notes = {"index_columns": ["absent"], "columns": [{"name": None, "pandas_type": "evil"}]}
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(notes)}), single / "held_out.parquet")
    _mend_digests(single)
    table = load(single, device="cpu", threads=1).calibration.held_out
    assert isinstance(table, pd.DataFrame)
    assert list(table) == SCHEMA.names


def test_a_head_of_another_width_than_the_bank(single) -> None:
    MemoryBank(np.ones((3, 7), np.float32)).save(single / "bank.safetensors")
    _refused(single, says=r"head\.safetensors: gives vectors of 6 and the memory bank has 7")


def test_many_wrong_keys_are_not_all_explained(single) -> None:
    path = single / "config.json"
    config = json.loads(path.read_text())
    config["settings"]["data"] |= {f"key {number}": 1 for number in range(50_000)}
    path.write_text(json.dumps(config))
    _refused(single, says=r"and 49980 more")


def test_a_group_pattern_that_captures_nothing(single) -> None:
    path = single / "config.json"
    config = json.loads(path.read_text())
    config["settings"]["data"]["group_pattern"] = "part"
    path.write_text(json.dumps(config))
    _refused(single, says=r"config\.json: data\.group_pattern: .* has 0 captures")
