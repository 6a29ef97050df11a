"""Anomaly maps put a patch at the centre of its cell: by geometry it looks elsewhere, trained it does not."""

import numpy as np

from benchmarks.map_centres import geometric_centre, gradient_centre
from reconpatch.model.backbone import load_backbone
from reconpatch.settings import FeatureSettings

NAME, SIDE = "tf_efficientnet_lite0", 160


def test_a_trained_network_looks_at_the_centre_of_the_cell():
    """Strides and paddings alone put patches 3.5 and 7.5 pixels (by level) behind the centre of the cell."""
    trained = load_backbone(FeatureSettings(backbone=NAME, image_size=SIDE))
    assert np.mean(geometric_centre(NAME, SIDE, networks=3)) > 3
    assert np.abs(gradient_centre(trained, SIDE, draws=12)).max() < 2


def test_the_geometry_of_symmetric_padding_looks_before_the_centre():
    """What was measured without trained weights is true of the geometry, and of that alone."""
    assert np.mean(geometric_centre("resnet18", SIDE, networks=3)) < -3
