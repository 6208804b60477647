"""All claims at a glance: which verdict tables are drawn, what is said of them, and when they are drawn again."""

from __future__ import annotations

import pandas as pd
import pytest

from kit.figures import claims
from kit.figures.manifest import Manifest
from kit.paper.claims import Claim, judged
from kit.show.artefacts import csv_bytes


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws verdicts of so many seeds as a notebook's; what the picture is made of, instead of the picture."""
    shown = []
    monkeypatch.setattr("kit.show.claims_at_a_glance", lambda tables, caption: shown.append((tables, caption)))
    monkeypatch.setattr("kit.show.save", lambda figure, name, out: (out / f"{name}.png").write_bytes(b"a picture"))

    def draw(notebook: str | None = None, file: str = "", seeds: int = 3, without: str = "", **draws) -> str | None:
        manifest = Manifest(tmp_path)
        if notebook:
            gains = pd.Series([1.0, 1.1, 0.9][:seeds])
            made = judged([Claim("raises Top-1", "Section 2", "+1 points", "points", gains, "T=5", "Top-1")])
            (tmp_path / "scratch").mkdir()
            (tmp_path / "scratch" / file).write_bytes(csv_bytes(made.drop(columns=without.split())))
            manifest.take(notebook, {"inputs": "", "parameters": {"preset": "smoke"} | draws}, tmp_path / "scratch")
        (tmp_path / "claims").mkdir(exist_ok=True)
        return claims.draw_claims(manifest, tmp_path / "claims")

    draw.out, draw.shown = tmp_path, shown
    return draw


def test_verdicts_are_drawn_in_the_papers_order_and_once(drawn):
    assert drawn() is None and drawn.shown == []  # without a table there is no picture
    assert drawn("04", "table2_verdicts.csv") == "claims.png"
    assert drawn("03", "table1_verdicts.csv", seeds=2) == "claims.png"
    tables, caption = drawn.shown[-1]
    assert list(tables) == ["Table 1", "Table 2"]
    assert [table["effect"].tolist() for table in tables.values()] == [[pytest.approx(1.05)], [pytest.approx(1)]]
    assert caption == "preset smoke · 2 or 3 seeds of teachers and students"
    assert drawn() is None and len(drawn.shown) == 2  # up to date
    (drawn.out / "claims.png").unlink()
    assert drawn() == "claims.png"


def test_it_says_whose_seeds_they_are_and_which(drawn):
    drawn("03", "table1_verdicts.csv", first_seed=0, one_teacher=False)
    drawn("03", "table1_verdicts.csv", seeds=2, first_seed=100)
    drawn("04", "table2_verdicts.csv", seeds=2, one_teacher=True)
    assert [caption for _, caption in drawn.shown] == [
        "preset smoke · 3 seeds of teachers and students",
        "preset smoke · 2 seeds of teachers and students, from seed 100",
        "preset smoke · 2 seeds of students of the same teachers or teachers and students, from seed 0 or 100",
    ]


def test_what_is_gone_altered_or_of_another_version_is_left_out(drawn):
    drawn("03", "table1_verdicts.csv")
    drawn("04", "table2_verdicts.csv")
    drawn("05", "table3_verdicts.csv", without="p q")
    assert list(drawn.shown[-1][0]) == ["Table 1", "Table 2"]
    (drawn.out / "table1_verdicts.csv").unlink()
    (drawn.out / "table2_verdicts.csv").write_text("")
    assert drawn() is None
    assert drawn("08", "fig2_verdicts.csv", seeds=1) == "claims.png"
    tables, caption = drawn.shown[-1]
    assert list(tables) == ["Figure 2"] and caption == "preset smoke · 1 seed of teachers and students"
