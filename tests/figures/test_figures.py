"""Drawing without a browser: what is refused, what is skipped, what a failing notebook leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import nbformat
import papermill
import pytest
from jupyter_client.connect import LocalPortCache
from small_runs import Here

from kit.__main__ import main
from kit.errors import KitError
from kit.figures import needs
from kit.figures.execute import Drawing, execute
from kit.figures.make import DRAFT, Schedule, _alone_in, make
from kit.figures.needs import Request, chosen, drawing_seconds
from kit.grid.engines import default_jobs
from kit.paper import table1
from kit.runs.store import folder_of
from kit.runs.training import train

DRAW = """
from pathlib import Path
target = Path(out)
(target / f"{name}.csv").write_text(f"preset,word\\n{preset},{word}\\n")
(target / f"{name}.png").write_bytes(word.encode())
"""


def notebook(folder, name: str, body: str = DRAW, parameters: str = "") -> None:
    cells = [
        nbformat.v4.new_markdown_cell("# A notebook"),
        nbformat.v4.new_code_cell(
            f'preset = "quick"\nword = "blue"\nname = "{name}"\nout = None\n{parameters}',
            metadata={"tags": ["parameters"]},
        ),
        nbformat.v4.new_code_cell(body),
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / f"{name}.ipynb")


@pytest.fixture
def books(monkeypatch, tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook(folder, "00_first")
    notebook(folder, "01_second", parameters="shade = 1")
    monkeypatch.setattr(needs, "NOTEBOOKS", folder)
    monkeypatch.setattr(papermill, "execute_notebook", executed_here)  # not in worker processes, which `make` starts
    return folder


def executed_here(path: str, executed: str, parameters: dict, **_) -> None:
    """Stands for papermill and its kernel: a notebook's cells run in this process."""
    book, names = nbformat.read(path, as_version=4), {}
    for cell in book.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            names |= parameters
    book.metadata["papermill"] = {"parameters": parameters}
    nbformat.write(book, executed)


def draw(names, asked: Request, out, force: bool = False) -> list[str]:
    """Makes figures in this process: for what is tested of choosing, skipping and placing them, not of drawing."""
    return make(names, asked, out, force, engine=Here())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "figures"


def request(**extra) -> Request:
    return Request(preset="smoke", jobs=1, extra=extra)


def refused(names, asked, out) -> str:
    with pytest.raises(KitError) as raised:
        make(names, asked, out)
    message = str(raised.value)
    assert "\n" not in message
    return message


def executed(out) -> set[str]:
    folder = out / "executed"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def manifest(out) -> dict:
    return json.loads((out / "manifest.json").read_text())


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- refused before anything runs ------------------------------------------------------------------------------------


def test_an_unknown_notebook_is_refused(books, out):
    message = refused(["00", "99_nothing"], request(), out)
    assert message == "notebook '99_nothing' is not known; allowed: 00_first, 01_second"
    assert not out.exists()


def test_an_unknown_parameter_is_refused(books, out):
    message = refused([], request(colour="red"), out)
    assert message.startswith("notebook parameter 'colour' is not known; allowed: name, preset, shade, word")
    assert "shade" in refused(["00"], request(shade=2), out)  # only of a notebook that was not asked for
    assert "'out'" in refused([], request(out="elsewhere"), out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Request(preset="huge"), "preset 'huge' is not known"),
        (Request(preset="smoke", data="/no/such/folder"), "folder '/no/such/folder' is not there"),
        (request(preset="huge"), "preset 'huge' is not known"),
        (request(preset=3), "notebook parameter preset: 3 is not allowed"),
        (request(seeds=0), "notebook parameter seeds: 0 is not allowed"),
        (request(seeds="many"), "notebook parameter seeds: 'many' is not allowed"),
        (request(role_data="real"), "notebook parameter role_data: 'real' is not allowed"),
    ],
)
def test_wrong_settings_are_refused(books, out, asked, said):
    assert said in refused([], asked, out)
    assert not out.exists()


GONE = {"notebooks": {}, "artefacts": {"a.csv": {"notebook": "03_gone", "sha256": "0"}}}
BARE = {"notebooks": {"00_first": {"inputs": "0"}}, "artefacts": {}}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"x"', json.dumps(GONE), json.dumps(BARE)])
def test_a_damaged_manifest_is_refused(books, out, text):
    out.mkdir()
    (out / "manifest.json").write_text(text)
    assert "manifest.json" in refused([], request(), out)
    assert executed(out) == set()


def test_a_folder_in_place_of_the_manifest_is_refused(books, out):
    (out / "manifest.json").mkdir(parents=True)
    assert "manifest.json is not readable" in refused([], request(), out)


def test_a_folder_of_images_is_the_shells_and_looked_for_first(books, out, tmp_path, monkeypatch):
    """By -p as by --data: a notebook, which is executed elsewhere, gets the same one."""
    images = tmp_path / "images"
    images.mkdir()
    monkeypatch.chdir(tmp_path)
    for asked in (request(data="images"), Request(preset="smoke", data="images")):
        assert asked.settled().data == asked.settled().parameters()["data"] == str(images)
    monkeypatch.chdir(images)
    assert refused([], request(data="images"), out).startswith(f"folder '{images}/images' is not there")
    assert not out.exists()


def test_files_of_networks_are_the_shells(books, tmp_path, monkeypatch):
    """A notebook is executed elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").touch()
    given = {"student": "my_nets.py:Net", "teacher": "timm:resnet50.a1_in1k", "teacher_weights": "w.pth", "seed": 3}
    found = request(networks=given).settled().parameters()["networks"]
    assert found == given | {"student": f"{tmp_path}/my_nets.py:Net", "teacher_weights": f"{tmp_path}/w.pth"}


# ---- choosing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["01", "01_second", "01_second.ipynb", "notebooks/01_second.ipynb"])
def test_a_notebook_has_many_names(books, word):
    assert list(chosen([word])) == ["01_second"]


def test_notebooks_come_in_order(books):
    assert list(chosen([])) == list(chosen(["01", "00"])) == ["00_first", "01_second"]


def test_the_kits_own_notebooks_are_found_with_their_parameters():
    own = needs.notebooks()
    assert set(needs.NEEDS) <= set(own)
    assert list(own) == sorted(own)
    assert "preset" in needs.parameters_of(own["00_start_here"])


# ---- drawing ---------------------------------------------------------------------------------------------------------


def test_drawing_skipping_and_drawing_again(books, out, monkeypatch, capsys):
    assert make([], request(word="red"), out) == []
    found = manifest(out)
    kinds = ("csv", "md", "png")
    assert list(found["artefacts"]) == [f"{name}.{kind}" for name in ("00_first", "01_second") for kind in kinds]
    for name, entry in found["artefacts"].items():
        assert entry == {"notebook": name.split(".")[0], "sha256": sha256(out / name)}
    assert (out / "00_first.csv").read_text() == "preset,word\nsmoke,red\n"
    assert found["notebooks"]["00_first"]["parameters"] == {"preset": "smoke", "word": "red"}
    assert found["notebooks"]["00_first"]["versions"]["torch"]
    assert executed(out) == {"00_first.ipynb", "01_second.ipynb"}
    assert list(out.glob(".*-*")) == []  # no scratch folder is left

    stamps = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("drawn again"))
        capsys.readouterr()
        assert draw([], request(word="red"), out) == []
        said = capsys.readouterr()
        assert said.out == "00_first, 01_second: up to date (--force draws again)\n"
        assert said.err == ""  # no bar where nothing is to be done
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps

    (out / "00_first.png").write_bytes(b"scribbled on")
    second = (out / "01_second.png").stat().st_mtime_ns
    assert draw([], request(word="red"), out) == []
    assert (out / "00_first.png").read_bytes() == b"red"
    assert (out / "01_second.png").stat().st_mtime_ns == second  # only the altered one

    (out / "01_second.csv").unlink()
    assert draw(["01"], request(word="red"), out) == []
    assert (out / "01_second.csv").exists()


def test_what_a_notebook_follows_from_makes_it_stale(books, out):
    assert draw(["00"], request(), out) == []
    assert manifest(out)["notebooks"]["00_first"]["parameters"] == {"preset": "smoke"}
    before = manifest(out)["notebooks"]["00_first"]["inputs"]
    assert draw(["00"], request(preset="quick"), out) == []  # a parameter given by -p counts as the option itself
    assert (out / "00_first.csv").read_text() == "preset,word\nquick,blue\n"
    notebook(books, "00_first", DRAW.replace(".csv", ".txt"))
    assert draw(["00"], request(), out) == []
    found = manifest(out)
    assert found["notebooks"]["00_first"]["inputs"] != before
    assert set(found["artefacts"]) == {"00_first.md", "00_first.png", "00_first.txt"}
    assert not (out / "00_first.csv").exists()  # what it draws no more
    stamp = (out / "00_first.png").stat().st_mtime_ns
    assert draw(["00"], request(), out, force=True) == []
    assert (out / "00_first.png").stat().st_mtime_ns > stamp
    notebook(books, "00_first", parameters="jobs = None")  # of which no picture follows
    assert draw(["00"], request(), out) == []
    stamp = (out / "00_first.png").stat().st_mtime_ns
    assert draw(["00"], request().model_copy(update={"jobs": 3}), out) == []
    assert (out / "00_first.png").stat().st_mtime_ns == stamp


def test_the_same_run_with_another_result_makes_it_stale(books, out, monkeypatch, tmp_path):
    """As on another machine: same description, same hash, other seconds."""
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(needs.NEEDS, "00_first", lambda plan, seeds: table1.table(plan, 1, ("cifar-10",))[:1])
    assert draw(["00"], request(), out) == []
    before = manifest(out)["notebooks"]["00_first"]
    assert draw(["00"], request(), out) == []
    assert manifest(out)["notebooks"]["00_first"] == before
    shutil.rmtree(tmp_path / "cache" / "runs")
    assert draw(["00"], request(), out) == []
    after = manifest(out)["notebooks"]["00_first"]
    assert after["runs"] == before["runs"] and after["inputs"] != before["inputs"]


def test_runs_of_ones_own_on_a_gpu_are_trained_one_at_a_time(books, out, monkeypatch, own_cache):
    """Though the preset's runs, and so the other notebooks', are on the CPU."""
    run = table1.table(request().plan, 1, ("cifar-10",))[0].runs[0].model_copy(update={"device": "cuda"})

    def heard(tasks, devices):
        raise KitError(f"{default_jobs(tasks, devices)} at a time")

    monkeypatch.setattr("kit.grid.engines.default_jobs", heard)
    with pytest.raises(KitError, match="^1 at a time$"):
        make(["00"], Request(preset="smoke"), out, own={"00_first": [run]})


def test_a_run_that_its_notebook_has_trained_did_finish(books, out, monkeypatch, own_cache):
    """As after a worker was killed: what the schedule did not finish the notebook finds missing, and trains."""
    rows = table1.table(request().plan, 1, ("cifar-10",))[:1]
    (run,) = rows[0].runs
    monkeypatch.setitem(needs.NEEDS, "00_first", lambda plan, seeds: rows)

    def killed(run, tick):
        raise RuntimeError("its process was killed")

    with monkeypatch.context() as patch:
        patch.setattr("kit.grid.training.train_in_worker", killed)
        assert draw(["00"], request(), out) == ["00_first: 1 of its 1 runs did not finish"]
        assert manifest(out)["notebooks"]["00_first"]["failed"]

        def trains(*arguments, **given):
            train(run)
            executed_here(*arguments, **given)

        patch.setattr(papermill, "execute_notebook", trains)
        assert draw(["00"], request(), out, force=True) == []
    assert manifest(out)["notebooks"]["00_first"]["failed"] == {}
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("drawn again"))
    assert draw(["00"], request(), out) == []


def test_a_failing_notebook_is_named_and_the_others_go_on(books, out, capsys):
    assert draw(["00"], request(), out) == []
    old, entry = (out / "00_first.png").read_bytes(), manifest(out)["notebooks"]["00_first"]
    notebook(books, "00_first", DRAW + '\n(target / "half.csv").write_text("half")\nraise ValueError("two\\nlines")')
    failures = make([], request(word="green"), out)
    assert len(failures) == 1
    assert failures[0].startswith("00_first: cell ")
    assert failures[0].endswith(": ValueError: two")
    assert (out / "00_first.png").read_bytes() == old  # the old pictures stay
    assert manifest(out)["notebooks"]["00_first"] == entry
    assert not (out / "half.csv").exists()
    assert (out / "01_second.png").read_bytes() == b"green"
    cell = int(failures[0].split("cell ")[1].split(":")[0])
    book = nbformat.read(books / "00_first.ipynb", as_version=4)
    assert "raise ValueError" in book.cells[cell - 1].source  # as a reader counts

    capsys.readouterr()
    status = main(["figures", "--preset", "smoke", "--out", str(out), "-p", "word=green"])
    assert status == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "cell" in line]
    assert lines == failures  # and 01 was skipped, being up to date


def test_failures_without_a_word_are_named_too(books, out):
    notebook(books, "00_first", "raise KeyError")
    notebook(books, "01_second", "import os\nos._exit(3)")
    raised, died = make([], request(), out)
    assert re.fullmatch(r"00_first: cell \d+: KeyError", raised)
    assert died == "01_second: its kernel died"


@pytest.mark.parametrize("moment", range(1, 4))
def test_after_an_interrupted_move_every_file_is_whole_and_the_notebook_is_drawn_anew(books, out, monkeypatch, moment):
    """Old and new: picture, table and page are placed by one `replace` each, before the manifest says so."""
    assert draw(["00"], request(), out) == []
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    moves, replace = [], os.replace

    def interrupted(source, target):
        moves.append(str(target))
        if len(moves) == moment:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            draw(["00"], request(word="red"), out)
    after = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    for name in ("00_first.csv", "00_first.png"):
        assert after[name] in (before[name], b"red", b"preset,word\nsmoke,red\n")  # whole, old or new
    assert after["manifest.json"] == before["manifest.json"]

    for word in ("blue", "red"):  # as before, and as asked for when it was interrupted
        assert draw(["00"], request(word=word), out) == []
        assert (out / "00_first.png").read_bytes() == word.encode()
        assert all(sha256(out / name) == entry["sha256"] for name, entry in manifest(out)["artefacts"].items())
        assert list(out.glob(".*-*")) == []


def test_killed_while_it_draws_it_goes_on_from_there(books, out, tmp_path):
    """SIGKILL within the second notebook: the first is not drawn again, the second's old pictures stay whole."""
    assert draw(["01"], request(word="old"), out) == []
    notebook(books, "01_second", DRAW + "\nimport time\n(target / 'half.csv').write_text('half')\ntime.sleep(600)")
    code = (
        "from pathlib import Path; from kit import figures; from kit.figures import needs\n"
        "from small_runs import Here\n"
        f"needs.NOTEBOOKS = Path({str(books)!r})\n"
        "request = figures.Request(preset='smoke', jobs=1, extra={'word': 'new'})\n"
        f"figures.make([], request, Path({str(out)!r}), engine=Here())"
    )
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=quiet, env=found)
    deadline = time.monotonic() + 600
    while not list(out.glob(".drawing-*/half.csv")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (out / "00_first.png").read_bytes() == b"new"
    assert (out / "01_second.png").read_bytes() == b"old"

    notebook(books, "01_second")
    stamp = (out / "00_first.png").stat().st_mtime_ns
    assert draw([], request(word="new"), out) == []
    assert (out / "00_first.png").stat().st_mtime_ns == stamp
    assert (out / "01_second.png").read_bytes() == b"new"
    assert list(out.glob(".*-*")) == []
    assert not (out / "half.csv").exists()


SIDE_BY_SIDE = """
import time
deadline = time.monotonic() + 60
place = Path(out).parent
(place / f"{name}.here").write_text("")
while len(list(place.glob("*.here"))) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
assert len(list(place.glob("*.here"))) == 2, "alone"
"""


def test_who_draws_into_a_folder_is_alone_there_whatever_the_caches(out, tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "one"))
    draft, entered = out / f"{DRAFT}00_first", threading.Event()

    def draw_too() -> None:
        with _alone_in(out):
            entered.set()

    other = threading.Thread(target=draw_too)
    with _alone_in(out):
        draft.mkdir()
        monkeypatch.setenv("KIT_CACHE", str(tmp_path / "another"))
        other.start()
        assert not entered.wait(1) and draft.exists()
    other.join()
    assert entered.is_set() and not draft.exists()


def test_notebooks_are_drawn_side_by_side_and_on_one_thread(books, out):
    """Each waits until the other is there; their kernels have one thread for tensors, whatever this process has."""
    before = os.environ.get("OMP_NUM_THREADS")
    threads = "\nimport torch\n(target / f'{name}.txt').write_text(str(torch.get_num_threads()))"
    for name in ("00_first", "01_second"):
        notebook(books, name, DRAW + SIDE_BY_SIDE + threads)
    assert make([], request(word="red").model_copy(update={"jobs": 2}), out) == []
    assert {path.name: path.read_text() for path in out.glob("*.txt")} == {"00_first.txt": "1", "01_second.txt": "1"}
    assert list(manifest(out)["notebooks"]) == ["00_first", "01_second"]
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_a_kernel_whose_port_is_taken_by_another_program_is_started_anew(monkeypatch, tmp_path):
    notebook(tmp_path, "00_first")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken, found = [other.getsockname()[1]], LocalPortCache.find_available_port
        monkeypatch.setattr(LocalPortCache, "find_available_port", lambda *at: taken.pop() if taken else found(*at))
        parameters = {"preset": "quick", "word": "red"}
        drawing = Drawing(tmp_path / "00_first.ipynb", tmp_path / "done.ipynb", tmp_path / "out", parameters)
        assert execute(drawing, lambda share: None) is None
    assert not taken and (tmp_path / "out" / "00_first.csv").read_text() == "preset,word\nquick,red\n"


def test_a_notebook_begins_when_its_own_runs_are_there(books, out, monkeypatch, tmp_path):
    """In one slot, of all orders: what is drawn of a run is drawn after it."""
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    rows = table1.table(request().plan, 1, ("cifar-10",))[:1]
    monkeypatch.setitem(needs.NEEDS, "00_first", lambda plan, seeds: rows)
    (run,) = rows[0].runs
    runs = f"\n(target / f'{{name}}.txt').write_text(str(Path({str(folder_of(run.hash))!r}).exists()))"
    for name in ("00_first", "01_second"):
        notebook(books, name, DRAW + runs)
    order = []
    monkeypatch.setattr(Schedule, "ended", recording(Schedule.ended, order))
    assert draw([], request(), out) == []
    assert order.index(run.hash) < order.index("notebook 00_first")
    assert (out / "00_first.txt").read_text() == "True"
    assert len(order) == 3
    assert all(drawing_seconds("smoke", name) for name in ("00_first", "01_second"))


def test_the_bar_is_told_of_a_second_table(books, out, monkeypatch):
    told = []
    notebook(books, "00_first", parameters="equal_time = False")
    monkeypatch.setitem(needs.FORESEEN, "00_first", lambda plan, seeds, equal_time: told.append(equal_time) or [])
    monkeypatch.setitem(needs.FOLLOWING, "00_first", lambda plan, asked, engine: told.append(asked.equal_time) or {})
    assert draw(["00"], request(equal_time=True), out) == []
    assert told == [True, True]
    assert manifest(out)["notebooks"]["00_first"]["parameters"]["equal_time"] is True


def recording(ended, order: list[str]):
    def both(self, task, reason):
        order.append(task.key)
        ended(self, task, reason)

    return both


def test_two_runs_of_the_kits_own_notebooks_write_the_same_bytes(tmp_path, monkeypatch):
    """Every SVG, PNG and CSV of a notebook that trains, from the same cache in other processes."""
    drawn = []
    for hash_seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        folder = tmp_path / hash_seed
        assert make(["00"], request(), folder) == []
        drawn.append({path.name: sha256(path) for path in folder.iterdir() if path.suffix in (".svg", ".png", ".csv")})
    assert drawn[0] == drawn[1]
    assert {name.rsplit(".", 1)[1] for name in drawn[0]} == {"svg", "png", "csv"}


def test_an_unfinished_manifest_does_not_replace_the_old_one(books, out, monkeypatch):
    assert draw(["00"], request(), out) == []
    before = (out / "manifest.json").read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kit.figures.manifest.write_atomically", interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw(["01"], request(), out)
    assert (out / "manifest.json").read_bytes() == before
