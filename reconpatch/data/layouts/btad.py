"""BTAD (beanTech): ``train/ok``, ``test/ok``, ``test/ko``, ``ground_truth/ko``."""

from reconpatch.data.layouts.layout import Layout

BTAD = Layout(name="btad", title="BTAD", signs=("train/ok", "test/ok"))
