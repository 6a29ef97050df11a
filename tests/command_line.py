"""Calls of the command line in tests."""

# Small images and a short training.
TINY = (
    "features.image_size=64", "modulation.steps=5", "modulation.batch_size=64", "coreset.ratio=0.1",
    "calibrate.holdout=0.3", "threads=1", "evaluate.pictures=2", "validate.min_train_images=4",
)  # fmt: skip
SET = [part for override in TINY for part in ("--set", override)]


def assert_one_line(done, status, *parts):
    assert done.status == status
    assert done.err.startswith("error ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
