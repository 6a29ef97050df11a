"""Training of f: determinism, history, schedule, teacher, and what it learns."""

import numpy as np
import pytest
import torch

from reconpatch.errors import DataError
from reconpatch.settings import ModulationSettings
from reconpatch.training import minibatches, training_loop
from reconpatch.training.training_loop import train_modulation

SMALL = {"dim": 8, "projection_dim": 4, "batch_size": 32, "steps": 5}


def settings(**changes):
    return ModulationSettings(**{**SMALL, **changes})


def patches(count=200, width=6, seed=0, dtype=np.float16):
    return np.random.default_rng(seed).normal(1, 2, (count, width)).astype(dtype)


def weight_of(trained):
    return trained.modulation.weight.detach().numpy()


def test_same_seed_same_bytes_whatever_the_global_generators_say(tmp_path):
    for name, state in (("a", 1), ("b", 2)):
        torch.manual_seed(state)
        train_modulation(patches(), settings(), seed=3).modulation.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = train_modulation(patches(), settings(), seed=4)
    other.modulation.save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_as_many_threads_as_there_may_be_give_the_same_bytes():
    before = torch.get_num_threads()
    weights = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            trained = train_modulation(patches(4096, 64), settings(dim=64, batch_size=512), seed=0)
            weights.append(weight_of(trained))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*weights)


def test_watching_validation_does_not_change_what_is_learnt():
    alone = train_modulation(patches(), settings(), seed=0)
    watched = train_modulation(patches(), settings(), seed=0, validation=patches(seed=1))
    np.testing.assert_array_equal(weight_of(alone), weight_of(watched))


def test_features_may_be_a_memory_map(tmp_path):
    np.save(tmp_path / "f.npy", patches())
    mapped = train_modulation(np.load(tmp_path / "f.npy", mmap_mode="r"), settings(), seed=0)
    np.testing.assert_array_equal(
        weight_of(mapped), weight_of(train_modulation(patches(), settings(), seed=0))
    )


def test_untrained_isometry_keeps_distances():
    features = patches(dtype=np.float32)
    trained = train_modulation(features, settings(steps=0), seed=0)
    out = trained.modulation.transform(features)
    before = np.linalg.norm(features[:, None] - features, axis=2)
    ratio = np.linalg.norm(out[:, None] - out, axis=2)[before > 0] / before[before > 0]
    np.testing.assert_allclose(ratio, 1 / trained.modulation.scale.item(), rtol=1e-3)
    assert trained.history == ()


def test_untrained_narrow_isometry_keeps_the_directions_of_most_variance():
    features = patches(dtype=np.float32) * np.array([1, 9, 1, 8, 1, 1], np.float32)
    out = train_modulation(features, settings(dim=2, steps=0), seed=0).modulation.transform(features)
    kept = out.var(0).sum() * features.var(0).mean() / features.var(0).sum()
    assert kept > 0.95  # the scale divides by the mean variance


def test_random_start_is_another_one():
    assert not np.allclose(
        weight_of(train_modulation(patches(), settings(steps=0, init="random"), seed=0)),
        weight_of(train_modulation(patches(), settings(steps=0), seed=0)),
    )


def test_history_by_steps_is_one_record_per_hundred_and_the_rest():
    history = train_modulation(patches(), settings(steps=230), seed=0).history
    assert [record.step for record in history] == [100, 200, 230]
    assert all(record.validation_loss is None and record.ratio is None for record in history)


def test_history_by_epochs_is_one_record_per_pass():
    history = train_modulation(patches(), settings(steps=None, epochs=3), seed=0).history
    assert [record.step for record in history] == [6, 12, 18]  # 200 patches are 6 batches of 32


def test_validation_loss_and_ratio_are_recorded():
    features = patches()
    history = train_modulation(features, settings(steps=200), seed=0, validation=patches(seed=1)).history
    for record in history:
        assert record.ratio == pytest.approx(record.validation_loss / record.train_loss)
        assert record.ratio == pytest.approx(1, abs=0.1)  # the same distribution


def test_training_lowers_the_loss():
    features = patches(width=24, dtype=np.float32) * np.where(np.arange(24) < 3, 4, 1).astype(np.float32)
    whole = {"batch_size": 200, "dim": 24, "projection_dim": 24, "alpha": 0.0}  # no noise of sampling
    start = train_modulation(features, settings(steps=1, **whole), seed=0).history[0].train_loss
    end = train_modulation(features, settings(steps=200, **whole), seed=0).history[-1].train_loss
    assert end < 0.8 * start


def test_patience_stops_early_and_keeps_the_best(monkeypatch):
    losses = iter([3.0, 2.0, 4.0, 5.0])

    def record(step, *_):
        loss = next(losses)
        return training_loop.TrainingRecord(step, 1.0, loss, loss)

    monkeypatch.setattr(training_loop, "_record", record)
    by_epochs, seen = settings(steps=None, epochs=50), []
    trained = train_modulation(
        patches(),
        by_epochs,
        seed=0,
        validation=patches(seed=1),
        patience=2,
        observe=lambda _, f: seen.append(f.weight.detach().clone().numpy()),
    )
    assert [entry.validation_loss for entry in trained.history] == [3.0, 2.0, 4.0, 5.0]
    _start, *at_records = seen
    np.testing.assert_array_equal(weight_of(trained), at_records[1])
    assert not np.array_equal(weight_of(trained), at_records[3])


def test_patience_without_validation_is_refused():
    with pytest.raises(ValueError, match="patience needs validation"):
        train_modulation(patches(), settings(), seed=0, patience=1)


def test_validation_of_another_width_is_refused():
    with pytest.raises(DataError, match="5 wide and features 6"):
        train_modulation(patches(), settings(), seed=0, validation=patches(width=5))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_patches_than_a_batch_train(count):
    assert np.isfinite(weight_of(train_modulation(patches(count), settings(), seed=0))).all()


def test_equal_patches_leave_f_finite():
    trained = train_modulation(np.full((100, 6), 2.5, np.float16), settings(), seed=0)
    assert np.isfinite(weight_of(trained)).all()
    assert trained.modulation.scale.item() == 1


def test_teacher_moves_towards_the_student_by_one_minus_gamma():
    start = train_modulation(patches(), settings(steps=0), seed=0).modulation
    projection = training_loop.Projection(torch.ones(4, 8))
    teacher = training_loop._Heads(training_loop.deepcopy(start), training_loop.deepcopy(projection))
    student = training_loop._Heads(training_loop.deepcopy(start), projection)
    with torch.no_grad():
        student.projection.weight.add_(10)
    teacher.follow(student, 0.9)
    torch.testing.assert_close(teacher.projection.weight, torch.full((4, 8), 2.0))


def test_heads_are_g_after_f():
    start = train_modulation(patches(), settings(steps=0), seed=0).modulation
    projection = training_loop.Projection(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    x = torch.from_numpy(patches(dtype=np.float32))
    torch.testing.assert_close(
        training_loop._Heads(start, projection)(start.standardise(x)),
        projection(start(x)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_every_category_has_the_same_say_whatever_its_size(monkeypatch):
    """Each step of both trainings takes its rows from here: half of them are the small category's, or few."""
    picks = []

    def load_batch(rows, picked, device):
        picks.append(picked)
        return minibatches.load_batch(rows, picked, device)

    monkeypatch.setattr(training_loop, "load_batch", load_batch)
    train_modulation(patches(1700), settings(batch_size=100), seed=0, parts=[1600, 100])
    assert [(picked >= 1600).sum() for picked in picks] == [50] * 5
    picks.clear()
    train_modulation(patches(1700), settings(batch_size=100), seed=0)
    assert max((picked >= 1600).sum() for picked in picks) < 20


def test_the_loss_is_watched_on_as_many_patches_of_each_category():
    large, small = patches(1600, seed=0), patches(100, seed=1) + np.float16(30)
    rows = np.concatenate([large, small])

    def watched(validation, **parts):
        wide = settings(steps=1, batch_size=100)
        return train_modulation(rows, wide, seed=0, validation=validation, **parts).history[0].validation_loss

    even = watched(np.concatenate([large[:100], small]))
    assert watched(rows, validation_parts=[1600, 100]) == pytest.approx(even, rel=0.1)
    assert watched(rows) != pytest.approx(even, rel=0.2)


def test_equal_patches_have_a_loss_of_nothing_and_no_ratio():
    equal = np.full((100, 6), 2.5, np.float16)
    (record,) = train_modulation(equal, settings(), seed=0, validation=equal).history
    assert (record.train_loss, record.validation_loss, record.ratio) == (0, 0, None)


@pytest.mark.parametrize("parts", [[100], [200, 0], [150, 51], []])
def test_parts_that_are_not_the_rows_are_refused(parts):
    with pytest.raises(ValueError, match="parts"):
        train_modulation(patches(200), settings(), seed=0, parts=parts)
