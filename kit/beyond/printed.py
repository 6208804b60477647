"""What is printed elsewhere of the siblings: CIFAR-100 Top-1 of nine pairs of teacher and student, as others copy it.

The protocol is another one (240 epochs, batch 64, the best epoch on the test split, weights chosen by pair), and its
row of ordinary distillation is low: who reruns it today gets about a point more. Sources: the readme files of
RepDistiller, mdistiller, CTKD, TTM, DIST and logit standardisation.
"""

from __future__ import annotations

import math
from statistics import fmean

from kit.siblings.crd import PRINTED

PAIRS = (  # of those of `PRINTED` the ones that the siblings' papers have, too
    ("resnet32x4", "resnet8x4"), ("vgg13", "vgg8"), ("wrn_40_2", "wrn_16_2"), ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"), ("resnet110", "resnet32"), ("resnet50", "mobilenetv2"), ("vgg13", "mobilenetv2"),
    ("resnet32x4", "shufflenetv2"),
)  # fmt: skip
TOP1 = {  # by the label of Table 5's row
    "hard labels": tuple(PRINTED[pair][1] for pair in PAIRS),
    "T=4": tuple(PRINTED[pair][2] for pair in PAIRS),
    "CTKD": (73.39, 73.52, 75.45, 73.93, 71.19, 73.52, 68.67, 68.50, 75.37),
    "DIST": (76.31, 73.89, 75.51, 74.73, 71.75, 73.69, 68.66, 68.50, 77.35),
    "DKD": (76.32, 74.68, 76.24, 74.81, 71.97, 74.11, 70.35, 69.71, 77.07),
    "TTM": (76.17, 74.33, 76.23, 74.32, 71.83, 73.97, 69.24, 68.98, 76.57),
    "WTTM": (76.06, 74.44, 76.37, 74.58, 71.92, 74.13, 69.59, 69.16, 76.55),
    "LSKD": (76.62, 74.36, 76.11, 74.37, 71.43, 74.17, 69.02, 68.61, 75.56),
}


def gain_over_kd(label: str) -> float:
    """What a row gains on ordinary distillation at T = 4 there, in points, on average over the pairs; NaN if none."""
    return fmean(TOP1[label]) - fmean(TOP1["T=4"]) if label in TOP1 else math.nan
