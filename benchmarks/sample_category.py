"""A smaller category out of a large one, drawn by a seed, for studies that fit many detectors.

    python benchmarks/sample_category.py CATEGORY OUT [--train 200] [--good 100] [--defective 100] [--seed 0]

Training images are drawn as whole groups until there are at least as many, test images one by one. Groups,
masks and names stay as they are. OUT is the new category's folder.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from reconpatch.data.manifest import build_manifest
from reconpatch.settings import DataSettings
from reconpatch.text.csv_files import write_frame


def sample(table: pd.DataFrame, train: int, good: int, defective: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    nominal = table[table["split"] == "train"]
    sizes = nominal["group"].value_counts(sort=False).sort_index()
    sizes = sizes.iloc[rng.permutation(len(sizes))]
    parts = [nominal[nominal["group"].isin(sizes.index[sizes.cumsum() - sizes < train])]]
    for label, count in ((0, good), (1, defective)):
        rows = table[(table["split"] == "test") & (table["label"] == label)]
        parts.append(rows.iloc[np.sort(rng.permutation(len(rows))[:count])])
    return pd.concat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("category", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--good", type=int, default=100)
    parser.add_argument("--defective", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    table = build_manifest(given.category, DataSettings())
    chosen = sample(table, given.train, given.good, given.defective, given.seed)
    for path in [*chosen["path"], *chosen["mask_path"].dropna()]:
        (given.out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given.category / path, given.out / path)
    write_frame(given.out / "groups.csv", chosen[["path", "group"]])
    print(chosen.groupby(["split", "label"]).size().to_string())


if __name__ == "__main__":
    main()
