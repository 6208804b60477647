"""The answer's pictures from runs that nobody trained: what their words say, and what an earlier answer leaves."""

from __future__ import annotations

import made_cache
import pytest

from kit.grid import train_all
from kit.judge.answer import answer
from kit.judge.pictures import Judged, draw, effects_figure, temperature_figure
from kit.judge.question import Question
from kit.paper.plan import runs_of
from kit.runs.store import Failure


@pytest.fixture
def judged(own_cache, monkeypatch):
    """An answer from so many seeds; runs of the named rows failed."""
    monkeypatch.setattr(made_cache, "DIVERGING", 0.0)

    def of(seeds: int = 2, lost=()) -> Judged:
        question = Question(preset="smoke", seeds=seeds)
        rows, methods = question.rows(), question.methods
        made_cache.make_all(runs_of(rows))
        results = train_all(runs_of(rows), jobs=1, show_progress=False)
        for row in (row for row in rows if row.name in lost):
            results |= {run: Failure(run, "made to fail") for run in row.runs}
        return Judged(methods, rows, results, answer(methods, rows, results), "smoke")

    return of


def caption(figure) -> str:
    (text,) = (text for text in figure.texts if text.get_gid() == "caption")
    return text.get_text().replace("\n", " ").replace("\u00a0", " ")


def test_one_seed_has_neither_an_interval_nor_teachers_beside_others(judged):
    one, two = judged(1), judged(2)
    assert "title and right: one seed has no interval, and so no verdict" in caption(effects_figure(one))
    assert "left: mean and 95 % t · title and right: intervals at " in caption(effects_figure(two))
    assert one.caption.endswith(" · 1 seed") and two.caption.endswith(" · 2 seeds, each with its own teachers")
    question = Question(preset="smoke", seeds=1)
    assert "4 rows from 1 seed\n" in question.about(question.rows()) + "\n"


def test_a_fixed_temperature_is_not_said_to_fall(judged):
    adaptive = ("adaptive, big teacher only", "adaptive, three steps")
    assert temperature_figure(judged(lost=adaptive)).get_suptitle() == "ordinary distillation, T=4"
    assert "adaptive, small teacher first: the temperature falls" in temperature_figure(judged()).get_suptitle()


def test_an_earlier_answers_pictures_do_not_stand_beside_a_new_table(judged, tmp_path):
    out, whole = tmp_path / "out", judged()
    list(draw(whole, out))
    (out / "cam.png").write_bytes(b"drawn where weights are")
    (out / "mine.png").write_bytes(b"mine")
    first = {path.name for path in out.iterdir()}
    assert {"accuracy.csv", "temperature.svg"} <= first
    list(draw(judged(lost=[row.name for row in whole.rows]), out))
    gone = first - {path.name for path in out.iterdir()}
    assert gone == {
        "cam.png",
        *(f"{name}.{kind}" for name in ("accuracy", "temperature") for kind in ("png", "svg", "csv")),
    }


def test_a_file_that_no_answer_wrote_stays(judged, tmp_path):
    (tmp_path / "accuracy.png").write_bytes(b"mine")
    (tmp_path / "runs.csv").write_text("name,kilometres\nSunday,12\n")
    list(draw(judged(lost=[row.name for row in judged().rows]), tmp_path))
    assert (tmp_path / "accuracy.png").read_bytes() == b"mine"
