"""Square crops around ships, against hand-made ones and NumPy's padding."""

from __future__ import annotations

import numpy as np
from hrsc_trees import picture

from kit.data.hrsc.crops import Window, crop_window, cut
from kit.data.hrsc.format import Box


def test_a_crop_is_a_square_with_context():
    assert crop_window(Box(4, 6, 14, 10)) == (1, 0, 16)


def test_a_cut_continues_the_image_by_its_mirror_image():
    pixels = picture(0, (5, 4))
    padded = np.pad(pixels, ((3, 9), (2, 8), (0, 0)), mode="reflect")  # (16, 15, 3)
    assert (cut(pixels, Window(-2, -3, 15)) == padded[:15, :15]).all()
