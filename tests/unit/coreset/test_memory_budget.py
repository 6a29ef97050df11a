from reconpatch.coreset import memory_budget


def _machine(monkeypatch, tmp_path, gib, limit="max"):
    pages = {"SC_PHYS_PAGES": gib << 18, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(memory_budget.os, "sysconf", pages.__getitem__)
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(memory_budget, "_CGROUP_LIMIT", tmp_path / "memory.max")


def test_the_default_does_not_grow_with_the_machine(monkeypatch, tmp_path):
    for gib in (8, 64, 512):
        _machine(monkeypatch, tmp_path, gib)
        assert memory_budget.default_memory_budget() == 2 << 30


def test_a_small_machine_or_container_gives_a_quarter(monkeypatch, tmp_path):
    _machine(monkeypatch, tmp_path, 4)
    assert memory_budget.default_memory_budget() == 1 << 30
    _machine(monkeypatch, tmp_path, 64, limit=2 << 30)
    assert memory_budget.default_memory_budget() == 512 << 20


def test_what_the_work_needs_is_given_up_to_a_quarter(monkeypatch, tmp_path):
    _machine(monkeypatch, tmp_path, 64)
    assert memory_budget.default_memory_budget(5 << 30) == 5 << 30
    assert memory_budget.default_memory_budget(50 << 30) == 16 << 30
    assert memory_budget.default_memory_budget(1) == 2 << 30


def test_an_unknown_machine_counts_as_one_with_8_gib(monkeypatch, tmp_path):
    _machine(monkeypatch, tmp_path, 64)

    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(memory_budget.os, "sysconf", unknown)
    assert memory_budget.default_memory_budget(3 << 30) == 2 << 30
