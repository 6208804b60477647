"""Tables as HTML: whole and escaped, with the frame's numbers, and with what is counted in them said first."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import sympy
from IPython.core.formatters import DisplayFormatter
from scipy import stats

from kit.derivation import section_1_1_claims
from kit.errors import KitError
from kit.paper import headlines, table3
from kit.paper.claims import Claim, explained, judged, readable, tally
from kit.paper.plan import Plan
from kit.show import Measure, picture, png_bytes, save
from kit.show.html_tables import (
    RECOMPUTED,
    SECTION_1_1,
    Table,
    compared_table,
    derived_table,
    judged_table,
    plain_table,
    signed_table,
)
from kit.show.run_tables import costs_table, record, runs_table
from kit.show.style import new_figure

VOID = {"path", "img"}  # drawn or empty: never closed by a tag of their own


class Read(HTMLParser):
    """A table as a browser takes it: every tag closed in turn, cells by row, spans repeated in the rows they span."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[tuple[str, dict[str, str | None]]]] = []
        self.says: dict[str, str] = {"caption": "", "figcaption": ""}
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append(("", dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.says:
            if tag in self.open:
                self.says[tag] += data
        if {"th", "td"} & set(self.open):
            text, attrs = self.rows[-1][-1]
            self.rows[-1][-1] = text + data, attrs

    @property
    def cells(self) -> list[list[str]]:
        """Texts, (rows, columns), heads first."""
        spread: list[list[str | None]] = [[] for _ in self.rows]
        for i, row in enumerate(self.rows):
            for text, attrs in row:
                at = next((j for j, taken in enumerate(spread[i]) if taken is None), len(spread[i]))
                for line in spread[i : i + int(attrs.get("rowspan", 1))]:
                    line += [None] * (at + 1 - len(line))
                    line[at] = text.strip()
        return spread


def frame() -> tuple[pd.DataFrame, pd.DataFrame]:
    draw = np.random.default_rng(1)
    rows = [
        {"role": role, "student": student, "top1": draw.uniform(0.2, 0.8, 3), "ratio": draw.uniform(0.5, 1.5, 3)}
        for role in ("cifar-10", "<b>hrsc</b>")
        for student in ("VGG-16", "ResNet-34")
    ]
    return pd.DataFrame(rows), pd.DataFrame({"top1": [88.9, np.nan, 92.1, 95.32]})


MEASURES = [
    Measure("top1", "test Top-1 %", 100, dots=True, limits=(0, 100)),
    Measure("ratio", "time", digits=2, reference=1),
]


def compared(**more) -> Table:
    df, paper = frame()
    return compared_table(df, ["role", "student"], MEASURES, paper, **{"title": "Table 9", "caption": "n"} | more)


def test_cells_have_the_frames_numbers():
    df, _ = frame()
    read = Read(compared().html)
    heads, *rows, scale = read.cells
    assert heads == ["role", "student", "test Top-1 %", "paper", "time"]
    assert [row[:2] for row in rows] == df[["role", "student"]].to_numpy().tolist()
    for row, top1, ratio in zip(rows, df["top1"], df["ratio"], strict=True):
        half = 100 * stats.sem(top1) * stats.t.ppf(0.975, 2)
        assert row[2] == f"{100 * top1.mean():.1f} ± {half:.1f}"
        assert row[4].startswith(f"{ratio.mean():.2f} ± ")
    assert [row[3] for row in rows] == ["88.9", "", "92.1", "95.32"]
    assert scale[0].startswith("drawn") and "…" in scale[2]
    assert read.says["caption"] == "Table 9" and "◇ the paper's figure" in read.says["figcaption"]


def test_heads_have_their_scope_and_one_cell_stands_for_several_rows():
    read = Read(compared().html)
    assert [attrs["scope"] for tag, attrs in read.tags if tag == "th"] == ["col"] * 5 + ["row"] * (2 + 4) + ["row"]
    assert [attrs["rowspan"] for tag, attrs in read.tags if "rowspan" in attrs] == ["2", "2"]
    assert [attrs["abbr"] for tag, attrs in read.tags if "abbr" in attrs] == ["the paper's test Top-1 %"]
    assert {len(row) for row in read.cells} == {5}


def test_every_text_is_escaped():
    bad = "</td><script>alert(1)</script>\"'&"
    tables = [
        plain_table(pd.DataFrame({bad: [bad, "1"]}), bad, bad),
        compared(title=bad, caption=bad),
        judged_table(judged([Claim(bad, bad, bad, bad, pd.Series([1.0, 2, 3]), bad)]), bad, bad),
    ]
    for table in tables:
        read = Read(table.html)
        assert [tag for tag, _ in read.tags].count("script") == 1  # the table's own
        assert read.says["caption"].startswith(bad) and bad in read.says["figcaption"]
    assert Read(tables[0].html).cells[:2] == [[bad], [bad]]
    assert "<b>" not in tables[1].html and Read(tables[1].html).cells[3][0] == "<b>hrsc</b>"
    shown = picture(new_figure(40, 40), alt=bad)
    tags = Read(shown._repr_html_()).tags
    assert "script" not in [tag for tag, _ in tags] and tags[0] == ("div", tags[0][1] | {"aria-label": bad})
    assert tags[-1] == ("img", tags[-1][1] | {"alt": bad})


def dots(html: str, colour: str) -> list[float]:
    """Where filled marks of a colour are, in px from the left of their cells."""
    return [float(x) for x in re.findall(rf'translate\(([\d.]+) 6\)" d="[^"]+" fill="var\(--kit-\w+,{colour}\)"', html)]


def test_what_is_drawn_has_a_colour_for_a_dark_page():
    for html in (compared().html, judged_table(claims(50, -60), "a", "b").html):
        used = set(re.findall(r"var\(--kit-([0-9a-f]{6}),#\1\)", html, re.IGNORECASE))
        night = dict(re.findall(r"--kit-([0-9a-f]{6}):(#[0-9a-f]{6})", html))
        assert used and used <= night.keys() and not re.search(r'(fill|stroke)="#', html)


def test_intervals_are_drawn_on_one_scale_a_column():
    means = [0.1, 0.2, 0.4]
    df = pd.DataFrame({"t": ["adaptive"] * 3, "a": [[mean - 0.01, mean + 0.01] for mean in means]})
    html = compared_table(df, ["t"], [Measure("a", "a", 100, dots=True)]).html
    first, second, third = dots(html, "#D55E00")
    assert third - second == pytest.approx(2 * (second - first), abs=0.11)  # in px, which are written with one digit
    half = 0.01 * stats.t.ppf(0.975, 1) * 100  # of two values: s/√n is half their distance
    (start, end), *_ = re.findall(r'd="M([\d.]+) 6H([\d.]+)"', html)
    assert float(end) - float(start) == pytest.approx(2 * half * (second - first) / 10, abs=0.3)
    one = compared_table(df.assign(a=[[0.1]] * 3), ["t"], [Measure("a", "a", dots=True)]).html
    assert compared_table(df.assign(a=0.1), ["t"], [Measure("a", "a", dots=True)]).html == one
    assert len(dots(one, "#D55E00")) == 3 and "stroke-opacity" not in one  # a dot, but no interval
    none = compared_table(df.assign(a=[[]] * 3, ended="diverged"), ["t"], [Measure("a", "a", dots=True)]).html
    assert "<svg" not in none and Read(none).cells[1:] == [["adaptive", "diverged"]] * 3


def claims(*effects: float, seeds: int = 3) -> pd.DataFrame:
    noise = np.array([-1.0, 0, 1])[:seeds]
    made = [Claim(f"claim {e}", "T", f"{e:+.1f} points", "points", pd.Series(e + noise), "T=5") for e in effects]
    return judged(made)


def test_a_verdict_table_says_first_how_many_hold():
    table = judged_table(claims(50, 40, 30, -60, 0, 0.1), "Judged", "")
    read = Read(table.html)
    assert read.says["caption"] == "Judged3 hold, 1 do not, 2 cannot be told"
    verdicts = [row[read.cells[0].index("verdict")] for row in read.cells[1:]]
    assert verdicts == ["✓holds here"] * 3 + ["✗does not hold here"] + ["?cannot be told from these data"] * 2
    assert table.html.count("<svg") == 6
    without = judged_table(claims(50, -60).drop(columns="printed"), "Judged", "").html
    assert without.count("<svg") == 2 and "M0-4L4 0L0 4L-4 0z" not in without  # no diamond
    alone = Read(judged_table(claims(1, seeds=1), "Judged", "").html)
    assert alone.says["caption"].endswith("0 hold, 0 do not, 0 cannot be told, 1 have no verdict")
    assert not any("nan" in row for row in alone.cells)


def test_verdicts_without_intervals_have_their_signs():
    printed = headlines.recomputed()
    read = Read(signed_table(printed, "Headlines", RECOMPUTED).html)
    follow = (printed["verdict"] == "follows").sum()
    assert read.says["caption"] == f"Headlines{follow} follow, {len(printed) - follow} do not"
    assert sum("✓follows" in row for row in read.cells) == follow
    derived = section_1_1_claims()
    html = signed_table(derived, "Section 1.1", SECTION_1_1).html
    assert f"Section 1.1</strong>{(derived['verdict'] == 'holds').sum()} hold, " in html
    assert "L<sub>D</sub>" in html and "L_D" not in html and "z<sup>s</sup><sub>i</sub>" in html
    with pytest.raises(KitError, match="verdict 'perhaps' is not known; allowed: follows, does not follow"):
        signed_table(pd.DataFrame({"verdict": ["perhaps"]}), "", RECOMPUTED)


def test_a_table_is_itself_alone():
    table = compared()
    assert table in {table} and table not in [compared()]


def test_the_paper_must_have_as_many_rows():
    df, paper = frame()
    with pytest.raises(KitError, match="paper has 3 rows and df 4; allowed: as many in both"):
        compared_table(df, ["role"], MEASURES, paper[:3])


def test_what_is_saved_is_the_picture(tmp_path):
    told = claims(50, -60)
    figure = plain_table(readable(told), f"a: {tally(told)}", f"b · {explained(told)}").picture()
    paths = [
        save(shown, "t", tmp_path / folder) for folder, shown in (("1", judged_table(told, "a", "b")), ("2", figure))
    ]
    assert [path.read_bytes() for path in paths[0]] == [path.read_bytes() for path in paths[1]]


def test_a_table_without_rows_is_its_heads():
    none = pd.DataFrame({"role": [], "top1": []})
    for table, heads in (
        (plain_table(pd.DataFrame(), "Nothing"), []),
        (plain_table(none, "Nothing"), ["role", "top1"]),
        (judged_table(judged([]), "Nothing", ""), [*readable(judged([]))]),
        (compared_table(none, ["role"], MEASURES, title="Nothing"), ["role", "test Top-1 %"]),
    ):
        assert Read(table.html).cells == [heads] and table.picture().get_suptitle().startswith("Nothing")


def test_a_notebook_gets_html_and_for_pictures_both():
    bundle, _ = DisplayFormatter().format(compared())
    assert bundle == {"text/plain": "Table(title='Table 9')", "text/html": compared().html}
    figure = new_figure(40, 30)
    bundle, _ = DisplayFormatter().format(picture(figure, alt="a white page"))
    assert set(bundle) == {"text/plain", "text/html", "image/png"}
    assert f"base64,{bundle['image/png'].strip()}".replace("\n", "") in bundle["text/html"]
    assert 'alt="a white page" width="40"' in bundle["text/html"]
    assert png_bytes(figure, scale=2) == picture(figure).data


def test_runs_are_shown_in_words():
    line = {
        "group": "C", "temperature": "T=5", "reading": "printed", "student": "CNN", "teachers": "VGG-19",
        "data": "made", "seed": 0, "status": "finished", "soft_ends": "1.0 (budget)",
        "train_top1": 0.5, "test_top1": 0.25,
        "test_top5": 0.75, "seconds": 12.34, "teacher_seconds": 20.0, "agreement_kl": 0.1234, "agreement_top1": 0.6,
    }  # fmt: skip
    failed = dict.fromkeys(line, None) | {"group": "C", "temperature": "T=5", "reading": "hinton", "seed": 1}
    failed |= {"status": "diverged: the loss is not finite", "seconds": np.nan, "teacher_seconds": np.nan}
    runs = pd.DataFrame([line, failed])
    heads, first, second = Read(runs_table(runs).html).cells
    assert dict(zip(heads, first, strict=True)) == {
        "temperature": "T=5", "reading of Eq. (1)": "printed", "seed": "0", "ended": "finished",
        "soft stages end: epoch (by)": "1.0 (budget)", "train Top-1 %": "50.0", "test Top-1 %": "25.0",
        "test Top-5 %": "75.0", "CPU s": "12.3", "same class as the big teacher %": "60.0",
        "KL to the big teacher, t = 1": "0.123",
    }  # fmt: skip
    assert second == ["T=5", "hinton", "1", "diverged: the loss is not finite", *["–"] * 7]
    assert ["student", "CNN"] in Read(record(runs[:1]).html).cells
    plan, again = Plan.of("smoke"), line | {"seed": 1, "seconds": 14.34, "teacher_seconds": 20.0}
    costs = costs_table(plan, table3.rates(plan, 2), pd.DataFrame([line, failed, again]))
    assert Read(costs.html).cells[1:] == [  # t(0.975, 1) = 12.7 times half the range
        ["C", "T=5", "printed", "13.3 ± 12.7", "20.0 ± 0.0", "33.3 ± 12.7"],
        ["C", "T=5", "hinton", "diverged", "diverged", "diverged"],
    ]
    assert "preset smoke · 2 seeds · intervals: 95 % t over seeds" in costs.html
    without = runs_table(runs.drop(columns=["agreement_kl", "agreement_top1"]))  # a table of hard labels alone
    assert Read(without.html).cells[1][-2:] == ["–", "–"]


def test_the_derivations_tables_have_the_papers_letters_and_nothing_raw():
    frame = pd.DataFrame({"loss": ["CE", "hard"], "limit": [-sympy.oo, 2 * sympy.Symbol("a")], "held": [True, False],
                          "error": [-1e-9, np.nan]})  # fmt: skip
    html = derived_table(frame, "Limits", ".1e").html
    for text in ("L<sub>D</sub>", "L<sub>CE</sub>", "−∞", "2·a", ">yes<", ">no<", "−1.0e−09"):
        assert text in html
    assert not re.search(r"\bnan\b|True|oo<", html)
