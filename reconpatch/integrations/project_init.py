"""From a folder of the user's own images to a project that the pipeline runs: `reconpatch init`."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yaml import safe_load

from reconpatch.calibration.promise import promise_line
from reconpatch.data.layouts import category_roots
from reconpatch.errors import DataError, SettingsError
from reconpatch.integrations.check_report import CRITICAL, CheckReport, ChecksFailedError
from reconpatch.integrations.data_checks import check_dataset
from reconpatch.integrations.optional_packages import import_extra
from reconpatch.settings import load_settings
from reconpatch.storage.atomic_files import atomic_file, atomic_folder, remove_abandoned


@dataclass(frozen=True)
class InitialisedProject:
    """What `initialise` did.

    Attributes:
        dataset: name of the data set.
        root: folder of the data set inside the project.
        categories: its categories, sorted.
        dvc_file: the small file that versions the images, to be committed to git.
        reports: what the data checks found, by the name of the folder.
        promises: of each category, what a calibration on its images can promise, in words.
    """

    dataset: str
    root: Path
    categories: tuple[str, ...]
    dvc_file: Path
    reports: dict[str, CheckReport]
    promises: tuple[str, ...] = ()


def initialise(
    images: Path, project: Path, name: str | None = None, *, force: bool = False
) -> InitialisedProject:
    """Check images, copy them to data/<name>, version them with DVC and point params.yaml at them.

    A call that was killed or failed is finished by the next one: images that lie there already are not
    copied again.

    Args:
        images: one category (a plain folder of good images, or any known layout), or a folder of
            categories. It is copied, never moved or changed.
        project: root of the project, where dvc.yaml and params.yaml lie.
        name: name of the data set; default: the folder's own, in lower case.
        force: take the images whatever the data checks find.

    Raises:
        ChecksFailedError: the data checks found a critical problem, which training would stop at.
        DataError: no category is recognised, data/<name> exists with other content, or the images
            cannot be copied.
        SettingsError: the project has no params.yaml or dvc.yaml, or a name does not fit.
        ReConPatchError: DVC, ruamel.yaml or great_expectations is not installed.
    """
    params = project / "params.yaml"
    for needed in (params, project / "dvc.yaml"):
        if not needed.is_file():
            raise SettingsError(
                f"{needed}: is missing; run this in the project's root (a clone of the repository)"
            )
    for package in ("dvc", "ruamel.yaml"):
        import_extra(package, "reconpatch init")
    name = _dataset_name(images.resolve().name) if name is None else name
    roots = category_roots(images)
    sources = {name: images} if images in roots.values() else _named(roots)
    # Parsed before anything is copied: a name that params.yaml refuses must leave no trace.
    named = {
        "pipeline.dataset": name,
        "pipeline.root": f"data/{name}",
        "pipeline.categories": list(sources),
    }
    settings = load_settings(params, named)
    reports = check_dataset(images, settings.data, settings.validate_)
    critical = sum(one.severity == CRITICAL for report in reports.values() for one in report.problems)
    if critical and not force:
        raise ChecksFailedError(
            f"{images}: the data checks find {critical} critical problem(s), which training would stop at; "
            "mend or remove these images, or take the folder as it is with --force",
            reports,
        )
    root = project / "data" / name
    _copy(sources, root)
    _dvc(project, "add", "--quiet", f"data/{name}")
    _write_params(params, name, list(sources))
    found = load_settings(params)
    promises = tuple(line for one in sources if (line := promise_line(one, root / one, found)) is not None)
    return InitialisedProject(name, root, tuple(sources), project / "data" / f"{name}.dvc", reports, promises)


def _dataset_name(text: str) -> str:
    slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower()).strip("-")
    if not slug:
        raise SettingsError(f"{text}: gives no usable name for the data set; give one with --name")
    return slug


def _named(roots: Mapping[str, Path]) -> dict[str, Path]:
    """The folder of each category by a name that params.yaml takes, such as ``Line-A`` for ``Line A``."""
    named: dict[str, Path] = {}
    for text, folder in roots.items():
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
        if not slug:
            raise SettingsError(f"{folder}: gives no usable name for a category; rename it in ASCII letters")
        if slug in named:
            raise DataError(f"{folder}: is named {slug} here, as {named[slug]} is; rename one of them")
        named[slug] = folder
    return named


def _copy(sources: Mapping[str, Path], root: Path) -> None:
    """Copy each category to its name below ``root``, all or none; equal content is left as it is."""
    remove_abandoned(root)
    if root.exists():
        wanted = {Path(name, path): size for name, source in sources.items() for path, size in _sizes(source)}
        if dict(_sizes(root)) != wanted:
            raise DataError(
                f"{root}: exists already with other content; choose another --name, or add images there and "
                "run `dvc add`"
            )
        return
    try:
        with atomic_folder(root) as temporary:
            for name, folder in sources.items():
                shutil.copytree(folder, temporary / name)
    except shutil.Error as error:
        source, _, reason = error.args[0][0]
        raise DataError(f"{source}: cannot be copied ({reason}); mend or remove it") from None
    except OSError as error:
        raise DataError(
            f"{root}: cannot be written ({error.strerror}); look at space and permissions"
        ) from None


def _sizes(root: Path) -> Iterator[tuple[Path, int]]:
    for folder, _, files in os.walk(root, followlinks=True):  # as copytree does
        for name in files:
            path = Path(folder, name)
            yield path.relative_to(root), path.stat().st_size


def _dvc(project: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DataError(f"dvc {' '.join(arguments)}: {done.stderr.strip() or 'failed'}")


def _write_params(path: Path, name: str, categories: Sequence[str]) -> None:
    """Change three keys of the section ``pipeline`` and leave every comment where it is."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    def plain(text: str) -> str:
        # ruamel.yaml quotes what YAML 1.2 reads otherwise; the settings are read as YAML 1.1 (on, 01, 1_0).
        return text if safe_load(text) == text else DoubleQuotedScalarString(text)

    yaml = YAML()
    yaml.preserve_quotes = True
    # ruamel would leave the place of every null blank.
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    values = yaml.load(path.read_text(encoding="utf-8"))
    section = values.setdefault("pipeline", {})
    section["dataset"], section["root"] = plain(name), f"data/{name}"
    section["categories"] = [plain(category) for category in categories]
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        yaml.dump(values, stream)
