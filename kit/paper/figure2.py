"""Figure 2, measured: does the student look where its teacher looks, and at the ship?

The paper explains ResNet-50 and VGG-19 by ResNet-34 students on HRSC2016 and judges their Grad-CAM maps by eye: with
its method "the heat map for ships concentrates on the hull", at T = 5 it lies "mostly on the sea" (Section 2.5). Here
every test image gets scores (`kit.cam.scores`), for the image's true class.

Readings. Fig. 2 names no small teacher. Table 3 has VGG-19 wherever ResNet-34 is the student, and the CNN where VGG-19
is explained on HRSC2016: so VGG-19 under ResNet-50, the CNN under VGG-19. Or the VGG-19 that the text names beside
ResNet-50 is itself the small teacher, and ResNet-50 alone is explained (`explained=("resnet50",)`). T = 5 and T = 20
go from the explained model straight to the student by Eq. (1), in both readings.

Intervals. A comparison is paired: same image, same seed, adaptive less fixed T. Over seeds: the mean over images, seed
by seed, with its t-interval; it speaks of other trainings on these images. Over images: each image's mean over seeds,
with its t-interval; it speaks of other images for these trainings. The verdict follows from the wider of the two, of
which the one over seeds is moderated, as in every table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from kit.cam import scores as cam_scores
from kit.cam.heat_maps import HeatMaps, maps
from kit.data.augment import normalise
from kit.data.base import Dataset
from kit.data.hrsc.dataset import HrscDataset
from kit.errors import KitError, one_of
from kit.models import TITLES
from kit.paper.claims import Claim, Estimate, judged, t_interval
from kit.paper.plan import Plan, Row, papers, rows
from kit.runs.spec import Run
from kit.runs.store import Failure, Result, find

ROLE, STUDENT = "hrsc2016", "resnet34"
SMALL = {"resnet50": "vgg19", "vgg19": "cnn"}  # the small teacher under each explained model
READINGS = ("printed", "hinton")  # of Eq. (1)
OURS = ("adaptive", "three steps")
HULL = "hull"  # what a mask is where segmentations have it

ROAD_EVERY = 10  # ROAD is computed for every tenth test image: it costs more than all other scores together …
ROAD_PIXELS = 500_000  # … and for fewer of large images, so that they have at most so many pixels in all

SCORES = ("pointing", "energy_mask", "energy_box", "iou", "iou_best", "road", "energy_shortcut", "agreement", "ssim")


def table(
    plan: Plan,
    seeds: int = 3,
    readings: Sequence[str] = READINGS,
    explained: Sequence[str] = tuple(SMALL),
    role: str = ROLE,
) -> list[Row]:
    """One row an explained model and procedure: Eq. (1) at T = 5 and T = 20 in each reading, and the three steps.

    On a role other than hrsc2016 nothing is known of what is in the images: maps are compared with each other alone.
    Raises KitError for a reading or an explained model that Fig. 2 has not.
    """
    procedures = [(T, reading) for T in ("T=5", "T=20") for reading in readings] + [OURS]
    return [
        row
        for big in (one_of("explained model", model, SMALL) for model in explained)
        for row in rows(plan, papers(*procedures), seeds, role, STUDENT, big, SMALL[big], group=TITLES[big])
    ]


# ---- what maps are scored against -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenes:
    """A test split, ready for networks and scores. Regions are bool (N, H, W), None where the data has none."""

    data: Dataset
    x: Tensor  # (N, 3, H, W), normalised
    labels: Tensor  # (N,)
    pixels: np.ndarray  # (N, H, W, 3) uint8
    masks: np.ndarray | None = None
    boxes: np.ndarray | None = None  # as regions
    shortcuts: np.ndarray | None = None

    @property
    def region(self) -> str:
        """What the masks are, in a word: the hull, where the data have it."""
        return getattr(self.data, "region", HULL)

    def box(self, image: int) -> list[float] | None:
        """The labelled ship's box, xmin, ymin, xmax, ymax in pixels; None where the data has none."""
        return self.data.boxes[image].tolist() if isinstance(self.data, HrscDataset) else None

    @classmethod
    def of(cls, data: Dataset) -> Scenes:
        """Any role; only hrsc2016 has regions."""
        pixels = data.test.images.take(torch.arange(len(data.test)))
        regions = {}
        if isinstance(data, HrscDataset):
            regions = {
                "masks": data.masks.numpy(),
                "boxes": cam_scores.boxes_as_regions(data.boxes, data.px),
                "shortcuts": data.shortcuts.numpy() if data.shortcuts.any() else None,
            }
        return cls(data, normalise(pixels, *data.mean_std), data.test.labels, pixels.numpy(), **regions)

    def __len__(self) -> int:
        return len(self.labels)


def against_regions(heat: np.ndarray, scenes: Scenes) -> dict[str, np.ndarray]:
    """The scores of maps (N, H, W) against hull, box and planted shortcut, each (N,), as far as there are regions.

    Pointing game and IoU are against the hull, which is the harder: a ship's box holds much sea.
    """
    found = {"empty": cam_scores.empty(heat)}
    if scenes.masks is not None:
        found |= {
            "pointing": cam_scores.pointing(heat, scenes.masks),
            "energy_mask": cam_scores.energy(heat, scenes.masks),
            "energy_box": cam_scores.energy(heat, scenes.boxes),
            "iou": cam_scores.iou(heat, scenes.masks),
            "iou_best": cam_scores.best_iou(heat, scenes.masks),
        }
    if scenes.shortcuts is not None:
        found["energy_shortcut"] = cam_scores.energy(heat, scenes.shortcuts)
    return found


def road_images(scenes: Scenes) -> Tensor:
    """The images that ROAD is computed for, spread over the split (which is ordered by class)."""
    pixels = scenes.x[0, 0].numel()
    return torch.arange(0, len(scenes), max(ROAD_EVERY, math.ceil(len(scenes) * pixels / ROAD_PIXELS)))


# ---- every score per student, image and seed ---------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """One network, and where it looks in every test image."""

    teacher: str  # the explained model
    student: str
    temperature: str  # or what a control is
    reading: str
    seed: int
    network: nn.Module
    heat: HeatMaps


WHICH = ("teacher", "student", "temperature", "reading", "seed")


def subjects(
    rows: Sequence[Row],
    results: Mapping[Run, Result | Failure],
    scenes: Scenes,
    method: str = "grad-cam",
    layer: str | None = None,
) -> Iterator[Subject]:
    """Each explained model's maps, seed by seed, then its finished students', then those of the students' starting
    weights. A seed whose explained model did not finish has none."""

    def seen(network: nn.Module, group: str, student: str, label: str, reading: str = "", seed: int = 0) -> Subject:
        heat = maps(network, scenes.x, scenes.labels, method, layer)
        return Subject(group, student, label, reading, seed, network, heat)

    for group in dict.fromkeys(row.group for row in rows):
        of_group = [row for row in rows if row.group == group]
        explained = {run: big for run in of_group[0].runs if (big := find(run.teachers["big"]))}
        for run, big in explained.items():
            yield seen(big.student().to(run.device), group, group, "teacher", seed=run.seed)
        for row in of_group:
            for run in row.runs:
                if isinstance(results[run], Result):
                    network = results[run].student().to(run.device)
                    yield seen(network, group, run.student.title, row.label, row.reading, run.seed)
        for run in explained:
            network = run.student.build(run.seed).to(run.device)
            yield seen(network, group, run.student.title, "random weights", seed=run.seed)


def scores(seen: Sequence[Subject], scenes: Scenes) -> pd.DataFrame:
    """A line per network and image: which, whether its prediction is right, and every score.

    Explained models (`teacher`), the students' starting weights (`random weights`) and three drawn maps stand beside
    the students as controls: `uniform map`, `oracle`, which is the hull's mask itself, and `coarse oracle`, which is
    the mask seen at as few cells as the students' maps have. A student is compared with the teacher of its own seed.
    """
    if not seen:
        raise KitError("no explained model finished, so there is no map; allowed: at least one")
    teachers = {(each.teacher, each.seed): each.heat.maps for each in seen if each.temperature == "teacher"}
    some = road_images(scenes)
    found = []
    for each in seen:
        heat = each.heat.maps
        road = np.full(len(scenes), np.nan)
        road[some] = cam_scores.road(each.network, scenes.x[some], heat[some], scenes.labels[some])
        columns = against_regions(heat, scenes) | {"road": road}
        if each.temperature != "teacher":
            of_teacher = teachers[each.teacher, each.seed]
            columns["agreement"] = cam_scores.rank_correlation(heat, of_teacher)
            columns["ssim"] = cam_scores.ssim(heat, of_teacher)
        which = {name: getattr(each, name) for name in WHICH}
        found.append(_lines(which, (each.heat.predicted == scenes.labels).numpy(), columns))
    if scenes.masks is not None:
        for group in dict.fromkeys(each.teacher for each in seen):
            cells = [each.heat.cells for each in seen if each.teacher == group][-1]  # a student's, trained or not
            drawn = {
                "uniform map": np.ones(scenes.masks.shape),
                "coarse oracle": cam_scores.through_cells(scenes.masks, cells),
                "oracle": scenes.masks.astype(float),
            }
            for name, heat in drawn.items():
                which = dict(zip(WHICH, (group, "", name, "", 0), strict=True))
                found.append(_lines(which, None, against_regions(heat, scenes)))
    frame = pd.concat(found, ignore_index=True)
    classes = np.array(scenes.data.classes)[scenes.labels.numpy()]
    frame.insert(6, "class", classes[frame["image"]])
    order = [*frame.columns[:8], *(name for name in SCORES if name in frame), "empty"]
    frame.attrs["region"] = scenes.region
    return frame[order]


def region_of(frame: pd.DataFrame) -> str:
    """What the scores `energy_mask`, `pointing` and IoU are against, in a word."""
    return frame.attrs.get("region", HULL)


def _lines(which: Mapping[str, object], right: np.ndarray | None, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    images = np.arange(len(columns["empty"]))
    return pd.DataFrame({**which, "image": images, "correct": right, **columns})


# ---- tables --------------------------------------------------------------------------------------------------------

BY = ["teacher", "temperature", "reading"]


def by_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """The mean over images of every score, a line per explained model, procedure and seed.

    `agreement` stands also for right and wrong predictions apart. `accuracy` is the share of right predictions.
    """
    columns = [name for name in (*SCORES, "empty") if name in frame]
    agreement, correct = frame["agreement"], frame["correct"]
    split = frame.assign(
        agreement_right=agreement.where(correct.eq(True)),
        agreement_wrong=agreement.where(correct.eq(False)),
        accuracy=correct.astype(float),
    )
    columns += ["agreement_right", "agreement_wrong", "accuracy"]
    return split.groupby([*BY, "seed"], sort=False)[columns].mean().reset_index()


def per_image(frame: pd.DataFrame, teacher: str, procedure: tuple[str, str], column: str) -> pd.DataFrame:
    """A score as a table (images × seeds)."""
    wanted = (frame[BY] == [teacher, *procedure]).all(axis=1)
    return frame[wanted].pivot(index="image", columns="seed", values=column)


def means(difference: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Averages a table (images × seeds) of differences, as fractions: points by seed and by image, NaNs left out."""
    points = 100 * difference
    return points.mean(axis=0).dropna(), points.mean(axis=1).dropna()


def wider(difference: pd.DataFrame) -> Estimate:
    """The mean with the wider of its two intervals, in points; with none where one seed or image leaves it open."""
    over_seeds, over_images = map(t_interval, means(difference))
    if math.isnan(over_seeds.low) or math.isnan(over_images.low):
        return over_seeds
    return max(over_seeds, over_images, key=lambda of: of.high - of.low)


def signed_rank(images: pd.Series) -> str:
    """The p of Wilcoxon's signed-rank test over the images' means; a dash where nothing differs."""
    if len(images) < 2 or (images == 0).all():
        return "–"
    p = stats.wilcoxon(images).pvalue
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def comparisons(frame: pd.DataFrame) -> pd.DataFrame:
    """Adaptive against each fixed T, in points: the mean difference and the wider of its two intervals."""
    titles = {
        "energy_mask": f"energy on {region_of(frame)}", "pointing": "pointing", "iou": "IoU", "road": "ROAD ×100",
        "energy_shortcut": "on shortcut", "agreement": "ρ to teacher ×100",
    }  # fmt: skip
    fixed = frame.loc[frame["temperature"].isin(["T=5", "T=20"]), BY].drop_duplicates()
    lines = []
    for teacher, *T in fixed.itertuples(index=False):
        line = {"explained model": teacher, "adaptive against": ", ".join(T)}
        for column in (column for column in titles if column in frame):
            ours, theirs = (per_image(frame, teacher, procedure, column) for procedure in (OURS, tuple(T)))
            line[titles[column]] = str(wider(ours - theirs))
        lines.append(line)
    return pd.DataFrame(lines)


def verdicts(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Section 2.5's claims, judged by the wider of the two intervals; the one over images and its test stand beside."""
    found = claims(frame)
    lines = judged(found).drop(columns=["where", "paper"])
    at = lines.columns.get_loc("at chance")
    lines.insert(at, "over images", [t_interval(claim.images).bounds for claim in found])
    lines.insert(at + 1, "p over images", [signed_rank(claim.images) for claim in found])
    return lines


def claims(frame: pd.DataFrame) -> list[Claim]:
    """Each claim for each explained model and each reading of T = 5.

    The headline is also judged on the mean over explained models. Claims about a region are left out where the data
    has none.
    """
    found, region = [], region_of(frame)

    def claim(text: str, against: str, difference: pd.DataFrame, quantity: str) -> None:
        of_seeds, of_images = means(difference)
        found.append(Claim(text, "Section 2.5, Fig. 2", "by eye", "points", of_seeds, against, quantity, of_images))

    teachers = list(dict.fromkeys(frame["teacher"]))
    present = set(frame.loc[frame["temperature"] == "T=5", "reading"])
    fixed = [("T=5", reading) for reading in READINGS if reading in present]
    relative = (
        (f"adaptive has more of its energy on the {region}", "energy_mask", 1),
        (f"adaptive points at the {region} more often", "pointing", 1),
        ("adaptive has less of its energy on the shortcut", "energy_shortcut", -1),
        ("adaptive's map is more like its teacher's", "agreement", 1),
    )
    for text, column, sign in (each for each in relative if each[1] in frame):
        for T in fixed:
            name, of_each = f"T=5, Eq. (1) {T[1]}", []
            for teacher in teachers:
                ours, theirs = (per_image(frame, teacher, procedure, column) for procedure in (OURS, T))
                of_each.append(sign * (ours - theirs))
                claim(text, f"{name} · {teacher}", of_each[-1], column)
            if column == "energy_mask" and len(teachers) > 1:
                claim(text, f"{name} · mean of both", sum(of_each) / len(of_each), f"{column}, mean of both")
    absolute = (
        (f"adaptive's energy is mostly on the {region}", "one half", 1, [OURS]),
        (f"adaptive's energy is drawn to the {region}", "chance", 1, [OURS]),
        (f"T=5's energy is mostly off the {region}", "one half", -1, fixed),
        (f"T=5's energy is kept off the {region}", "chance", -1, fixed),
    )
    for text, level, sign, procedures in absolute if "energy_mask" in frame else ():
        for procedure, teacher in product(procedures, teachers):
            on_hull = per_image(frame, teacher, procedure, "energy_mask")
            chance = per_image(frame, teacher, ("uniform map", ""), "energy_mask")[0]
            difference = on_hull.sub(chance if level == "chance" else 0.5, axis=0)
            name = level if procedure == OURS else f"{level}, Eq. (1) {procedure[1]}"
            claim(text, f"{name} · {teacher}", sign * difference, "energy less a level")
    return found


# ---- which images are shown ------------------------------------------------------------------------------------------


def shown(frame: pd.DataFrame, drawn: int = 5, extremes: int = 2, seed: int = 0) -> dict[int, str]:
    """The images of the grid and why: a fixed random draw, then those where adaptive gains and loses most over T = 5.

    Gain is in energy on the hull, mean over explained models, seeds and readings of T = 5.
    """
    images = np.unique(frame["image"])
    random = np.random.default_rng(seed).permutation(images)[:drawn]
    chosen = {int(image): "random draw" for image in sorted(random)}
    if "energy_mask" not in frame or not {"adaptive", "T=5"} <= set(frame["temperature"]):
        return chosen
    of = frame.groupby(["temperature", "image"])["energy_mask"].mean()
    gain = (of["adaptive"] - of["T=5"]).dropna().drop(list(chosen), errors="ignore").sort_values(kind="stable")
    chosen |= {int(image): "best for adaptive" for image in gain.index[::-1][:extremes]}
    return chosen | {int(image): "worst for adaptive" for image in gain.index[:extremes] if int(image) not in chosen}
