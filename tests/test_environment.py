"""The three ways to install say the same, and notebooks are committed as the kit wants them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def constraints() -> dict[str, Version]:
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            assert canonicalize_name(requirement.name) not in found, line
            found[canonicalize_name(requirement.name)] = Version(pin.version)
    return found


def floors() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for text in (*PROJECT["dependencies"], *(text for extra in extras for text in extra))]


# ---- installing ------------------------------------------------------------------------------------------------------


def test_constraints_satisfy_every_floor():
    pinned = constraints()
    for requirement in floors():
        assert list(requirement.specifier), f"{requirement} has no floor"
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement}: {version}"


def test_environment_has_a_python_that_the_project_allows():
    (python,) = (word for word in CONDA["dependencies"] if isinstance(word, str) and word.startswith("python="))
    assert Version(python.removeprefix("python=")) in SpecifierSet(PROJECT["requires-python"])
    assert CONDA["name"] == PROJECT["name"]


def test_environment_installs_the_project_with_the_constraints():
    (pip,) = (word["pip"] for word in CONDA["dependencies"] if isinstance(word, dict))
    words = [re.split(r"[ =]", line, maxsplit=1) for line in pip]
    options = {option.replace("--constraint", "-c").replace("--editable", "-e"): value for option, value in words}
    assert options == {"-c": "constraints.txt", "-e": ".[dev]"}
    assert "pip" in CONDA["dependencies"]
    assert "dev" in PROJECT["optional-dependencies"]


def test_make_installs_the_same():
    makefile = (ROOT / "Makefile").read_text()
    (install,) = (line for line in makefile.splitlines() if "pip install" in line and "editable" in line)
    assert "--constraint constraints.txt" in install
    assert ".[dev]" in install


def test_make_audit_goes_on_where_a_failed_try_left_off(tmp_path):
    """Its first try has no index to install from. A Python that only writes down what it is told stands for all."""
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh
        echo "$@" >> told
        if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp python "$3/bin"; fi
        if [ "$2" = pip ]; then test -e online; fi
    """)
    python.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    audit = ["make", "audit", "PYTHON=./python"]
    assert subprocess.run(audit, cwd=tmp_path, capture_output=True).returncode != 0
    (tmp_path / "online").touch()
    for _ in range(2):
        assert subprocess.run(audit, cwd=tmp_path, capture_output=True).returncode == 0
    told = [line.split()[:2] for line in (tmp_path / "told").read_text().splitlines()]
    assert told.count(["-m", "pip"]) == 2 and [line[0] for line in told].count(".ci/audit.py") == 2


def test_what_the_kit_imports_is_declared():
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "pytorch_grad_cam": "grad-cam",
             "IPython": "ipykernel", "nbclient": "papermill", "dask": "distributed",
             "bs4": "beautifulsoup4"}  # fmt: skip
    declared = {canonicalize_name(requirement.name) for requirement in floors()}
    for file in (ROOT / "kit").rglob("*.py"):
        for module in re.findall(r"^\s*(?:from|import) (\w+)", file.read_text(), re.MULTILINE):
            if module != "kit" and module not in __import__("sys").stdlib_module_names:
                name = canonicalize_name(names.get(module, module))
                assert name in declared, f"{file.relative_to(ROOT)} imports {module}"


# ---- notebooks -------------------------------------------------------------------------------------------------------


def test_notebooks_are_numbered():
    assert NOTEBOOKS
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{i:02d}_" for i in range(len(NOTEBOOKS))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_clean(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert book.metadata["kernelspec"]["name"] == "python3"
    for cell in book.cells:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")
        assert cell.source.strip()
    assert "widgets" not in book.metadata


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_takes_parameters(path):
    parameters = papermill.inspect_notebook(str(path))
    assert {"preset", "out"} <= set(parameters)
    assert parameters["out"]["default"] == "None"
    tagged = [cell for cell in nbformat.read(path, as_version=4).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert 'os.environ.get("KIT_PRESET", "quick")' in tagged[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_its_aim_and_closes_with_exercises(path):
    cells = nbformat.read(path, as_version=4).cells
    first, last = cells[0], cells[-1]
    assert first.cell_type == last.cell_type == "markdown"
    assert re.match(rf"# {path.name[:2]} · \S", first.source)
    for word in ("Aim", "Needs", "Minutes"):
        assert re.search(rf"\|\s*\*\*{word}\b", first.source), word
    assert last.source.startswith("## Exercises")
    assert re.search(r"^1\. ", last.source, re.MULTILINE)


def test_one_reads_on_from_each_notebook_to_the_next_and_back():
    def targets(cell) -> list[str]:
        return re.findall(r"\]\((\d\d_\w+\.ipynb)\)", cell.source)

    names = [path.name for path in NOTEBOOKS]
    for i, path in enumerate(NOTEBOOKS):
        cells = nbformat.read(path, as_version=4).cells
        assert targets(cells[0])[:1] == names[max(0, i - 1) : i]
        assert targets(cells[-1]) == [names[(i + 1) % len(names)]]
        if i == 0:
            assert [name for cell in cells[1:-1] for name in targets(cell)] == names[1:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebooks_logic_is_in_the_kit(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not re.search(r"^\s*class ", cell.source, re.MULTILINE)
            assert len(cell.source.splitlines()) <= 40


def test_equations_that_notebook_01_cites_are_given_in_it():
    """Each number stands behind a formula, and the losses have the paper's letters."""
    cells = nbformat.read(ROOT / "notebooks" / "01_derivation.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells)
    given = set(re.findall(r"(?:\$|\\quad) \((D\d+)", text)) | set(re.findall(r'"(D\d+)"', text))
    assert set(re.findall(r"\((D\d+)\)", text)) <= given
    assert {f"D{number}" for number in range(1, 9)} <= given
    for word in (r"\mathbb{E}_p[z] =", r"\mathrm{Var}_p$ and $\mathrm{Cov}_p$ are"):
        assert text.index(word) < text.index(r"\quad (D1)")
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert not re.search(r"\bCE\b(?!})", prose)


def test_the_explained_model_is_explained_where_it_is_first_met():
    first = next(
        cell.source
        for path in NOTEBOOKS
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown" and re.search(r"\bexplained\b", cell.source)
    )
    assert "*explained model*, which is what the paper calls the big teacher" in first
