"""Which categories a flow takes, and the keys of its artifacts."""

import pytest

from flows.support.category_choice import choose_categories
from flows.support.prefect_artifacts import artifact_key
from reconpatch.errors import SettingsError
from reconpatch.settings import load_settings
from tasks.running.stage_folders import PARAMS, PROJECT


def test_categories_come_in_the_order_of_the_parameters_and_unknown_ones_are_refused() -> None:
    settings = load_settings(PROJECT / PARAMS)
    known = settings.pipeline.categories
    assert choose_categories(settings, []) == list(known)
    assert choose_categories(settings, [known[2], known[0]]) == [known[0], known[2]]
    with pytest.raises(SettingsError, match=r"category nope: not among pipeline\.categories"):
        choose_categories(settings, [known[0], "nope"])


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("gate", "reconpatch-tiny-plain", "1"), "gate-reconpatch-tiny-plain-1"),
        (("drift", "A_b.\u00fc"), "drift-a-b--"),
    ],
)
def test_a_key_is_lower_case_letters_digits_and_dashes(parts: tuple[str, ...], key: str) -> None:
    assert artifact_key(*parts) == key
