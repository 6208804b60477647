"""The README is true: its examples run as they stand, its notebooks exist; so do the examples of CONTRIBUTING,
docs/data.md and docs/several.md."""

import re
import shlex
from pathlib import Path

import pandas as pd
import torch
import torchvision
from image_trees import build_tree
from small_runs import Here

from kit.__main__ import main
from kit.figures.claims import TABLES
from kit.paper import table4
from kit.paper.claims import FAILS, HOLDS, OPEN
from kit.paper.plan import Plan
from kit.paper.settings import Settings
from kit.recipe import Recipe
from kit.runs import train, with_teachers

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_example_of_an_own_loss_trains_as_it_stands(own_cache, capsys):
    exec(next(code for code in examples() if "Objective" in code), {})
    assert "'test_top1'" in capsys.readouterr().out


def test_the_example_of_an_own_network_trains_as_the_command_has_it(tmp_path, here, monkeypatch, capsys):
    """The command itself, at a size for seconds, on images and by a teacher's weights that are made here."""
    monkeypatch.chdir(tmp_path)
    code = next(code for code in examples() if "def tiny" in code)
    (tmp_path / "my_nets.py").write_text(code, encoding="utf-8")
    torch.save(torchvision.models.resnet18(num_classes=2).state_dict(), "resnet18.pth")
    build_tree(tmp_path / "pets", ("cat", "dog"), (6, 6), "test", (16, 16))
    (line,) = (line for line in TEXT.splitlines() if "my_nets.py:tiny" in line)
    words = shlex.split(line, comments=True)[3:]
    assert main([*words, "--preset", "smoke", "--seeds", "2", "--epochs", "2", "--small-teacher", "none"]) == 0
    assert "my_nets.py:tiny" in capsys.readouterr().out


def test_the_example_of_an_own_temperature_falls_as_the_student_follows():
    names = {}
    exec(next(code for code in examples() if "Policy" in code), names)
    settings = Settings(student="cnn", teacher="cnn", role="cifar-10", preset="smoke", temperature=names["Patient"]())
    *_, result = [train(run) for run in with_teachers([settings.run()])]
    t = result.steps[result.steps["stage"] == "big teacher"]["t"]
    assert t.iloc[0] == 20 and (t.diff().dropna() <= 0).all() and 1 < t.iloc[-1] < 20


def test_the_example_of_a_temperature_by_image_trains():
    names = {}
    exec(next(code for code in examples(CONTRIBUTING) if "Policy" in code), names)
    *_, result = [train(run) for run in with_teachers([names["run"]])]
    soft = result.steps[result.steps["stage"] == "big teacher"]
    assert (soft["t_least"] < soft["t_used"]).all() and (soft["t_used"] < soft["t_most"]).all()


def test_the_example_of_own_arrays_trains_as_it_stands(capsys):
    names: dict = {}
    (code,) = examples((ROOT / "docs" / "data.md").read_text(encoding="utf-8"))
    exec(code, names)
    assert float(capsys.readouterr().out) == names["training"].metrics()["test_top1"] > 0.5


def test_the_example_of_several_teachers_is_a_recipe_for_as_many_epochs():
    names: dict = {}
    exec(examples((ROOT / "docs" / "several.md").read_text(encoding="utf-8"))[0], names)
    assert Recipe(stages=names["stages"], epochs=names["epochs"], batch=20, lr=0.1).teachers == ("small", "big")


def test_the_example_of_an_own_method_is_a_row_of_table_4():
    code = next(code for code in examples(CONTRIBUTING) if "Method(" in code)
    assert len(code.splitlines()) < 30
    names = {}
    exec(code, names)
    frame = table4.compare(Plan.of("smoke"), 1, jobs=Here(), methods=(names["METHOD"],), show_progress=False).frame
    assert frame[["method", "title", "status"]].values.tolist() == [["self", "self-distillation", "finished"]]
    assert frame["steps"].item() == 2 * frame["steps_student"].item()  # the rehearsal is paid for


def test_what_it_says_was_found_is_what_the_verdicts_beside_the_figures_say():
    drawn = {file: pd.read_csv(ROOT / "figures" / file) for file in TABLES}
    counts = pd.concat(drawn.values())["verdict"].value_counts()
    numbers = [str(counts.sum()), *(str(counts[verdict]) for verdict in (HOLDS, FAILS, OPEN))]
    for text in (TEXT, (ROOT / "README.zh.md").read_text(encoding="utf-8")):
        found = text.partition("docs/evidence.md")[2].partition("![")[0]
        assert re.findall(r"\d{2,}", found)[:4] == numbers
    table2, table4 = (drawn[f"table{n}_verdicts.csv"].set_index("claim") for n in (2, 4))
    for reading, gains in (("printed", HOLDS), ("hinton", OPEN)):
        against = table2[table2["against"].str.endswith(reading)]["verdict"]
        for claim, verdict in {"raises test Top-1": gains, "saves time": HOLDS}.items():
            assert [*against[f"the adaptive temperature {claim}"]] == [verdict, verdict]  # at T = 5 and at T = 20
    assert table4["verdict"]["ours is better than all others in Top-1"] == FAILS


def examples(text: str = TEXT) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_notebooks_that_it_names_are_there():
    names = re.findall(r"^\| \[`(\d\d_\w+)`\]\(figures/\1\.md\) \|", TEXT, re.M)
    assert names == [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]
