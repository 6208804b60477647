"""Small numbers: one image a class, two classes, one seed. Every table works, or says in a line what is too little."""

from __future__ import annotations

import numpy as np
import pytest
from caches import new_cache
from made_cache import make_all
from PIL import Image

from kit.errors import KitError
from kit.grid import train_all
from kit.paper import table2, table4
from kit.paper.claims import NONE
from kit.paper.plan import Plan, runs_of
from kit.paper.settings import Settings
from kit.show import paper_figures


@pytest.fixture
def two_images(tmp_path, monkeypatch):
    """A folder with one image of either class in either split."""
    monkeypatch.setenv("KIT_CACHE", str(new_cache(tmp_path / "cache")))
    for i, place in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        (tmp_path / "pets" / place).mkdir(parents=True)
        pixels = np.random.default_rng(i).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pets" / place / "0.png")
    return tmp_path / "pets"


def test_a_student_and_its_teachers_train_on_one_image_a_class(two_images):
    settings = Settings(
        student="cnn", teacher="cnn", small_teacher="cnn", role="cifar-10", preset="smoke", data=str(two_images)
    )
    run = settings.run()
    assert (run.data.classes, run.data.train_images) == (2, 2)
    metrics = train_all([run], jobs=1)[run].metrics
    assert metrics["test_top1"] in (0.0, 0.5, 1.0) and metrics["test_top5"] == 1.0


def test_a_table_of_one_seed_and_two_classes_has_no_verdict_and_a_picture(two_images):
    plan = Plan.of("smoke", folder=two_images)
    rows = table2.table(plan, 1)
    make_all(runs_of(rows))
    frame = table2.run(plan, 1, jobs=1)
    claims = table2.verdicts(frame, plan)
    assert set(claims["verdict"]) == {NONE}
    paper_figures.table_2(plan, rows, frame).picture()
    paper_figures.verdicts(plan, rows, claims, "Judged").picture()


def test_a_search_needs_images_to_hold_out(two_images):
    with pytest.raises(
        KitError, match="2 training images of .* are too few to hold 40% of a class out; allowed: a class"
    ):
        table4.compare(Plan.of("smoke", folder=two_images), 1, 1)
