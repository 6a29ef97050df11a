import os
import threading
from contextlib import suppress

import pytest
import torch

from reconpatch.device import choose_device, limit_threads, one_thread, usable_cores, worker_pool
from reconpatch.errors import SettingsError


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    limit_threads(before)


def have_cuda(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("name", "devices", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda"),
        ("cpu", 1, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_device_is_what_the_name_says(monkeypatch, name, devices, expected):
    have_cuda(monkeypatch, devices)
    assert choose_device(name) == torch.device(expected)


def test_cuda_that_is_absent_is_an_error_that_says_what_to_do(monkeypatch):
    have_cuda(monkeypatch, 0)
    with pytest.raises(SettingsError, match=r"device: cuda:0 .* set device to cpu or auto"):
        choose_device("cuda:0")


def test_cuda_device_beyond_the_last_is_an_error_that_names_the_range(monkeypatch):
    have_cuda(monkeypatch, 2)
    with pytest.raises(SettingsError, match=r"cuda:2 does not exist; .* cuda:0 to cuda:1"):
        choose_device("cuda:2")


def test_threads_are_set_for_torch():
    assert limit_threads(3) == 3
    assert torch.get_num_threads() == 3


def test_zero_threads_means_the_cores_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert usable_cores() == 3
    assert limit_threads(0) == 3


def test_workers_compute_alone_and_leave_the_number_of_others_as_it_was():
    limit_threads(3)
    with worker_pool(4) as pool:
        seen = list(pool.map(lambda _: torch.get_num_threads(), range(16)))
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [1] * 16
    assert torch.get_num_threads() == 3
    assert later == [3]


def test_one_thread_holds_for_the_block_alone_even_if_it_fails():
    limit_threads(3)
    inside = []
    with suppress(KeyError), one_thread():
        inside.append(torch.get_num_threads())
        raise KeyError
    assert (inside, torch.get_num_threads()) == ([1], 3)
