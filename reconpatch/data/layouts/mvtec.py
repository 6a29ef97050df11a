"""MVTec AD: ``train/good``, ``test/good``, ``test/<defect type>``, ``ground_truth/<defect type>``."""

from reconpatch.data.layouts.layout import Layout

MVTEC = Layout(name="mvtec", title="MVTec AD", signs=("train/good", "test/good"))
