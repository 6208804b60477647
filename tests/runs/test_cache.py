"""The cache against other processes, full and read-only disks; runs removed and carried elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import pytest
from forked import context, forked
from small_runs import cut, hard, left_in, taught

from kit.__main__ import main
from kit.errors import KitError
from kit.files import CHECKSUMS
from kit.recipe import HardLabels, Moment, Recipe, Stage
from kit.runs.spec import Run
from kit.runs.store import FILES, cached, find, folder_of, locked
from kit.runs.training import compute_logits, train
from kit.runs.transfer import export_runs, import_runs, packed, prune, unpacked
from kit.training.history import Diverged

pytestmark = pytest.mark.usefixtures("own_cache")


def folders(place: Path) -> dict[str, dict[str, bytes]]:
    return {
        folder.name: {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in place.iterdir()
        if folder.is_dir()
    }


# ---- removing --------------------------------------------------------------------------------------------------------


def test_what_is_kept_keeps_its_teachers(own_cache):
    small, big = train(hard(width=3)).run, train(hard(width=4)).run
    student, other = train(taught(big, small)).run, train(hard(seed=5)).run
    with pytest.raises(KitError, match="run '0123' is not in the cache, "):
        prune(keep=["0123"])
    assert len(cached()) == 4
    assert prune(keep=[student.hash]) == 1
    assert {entry.hash for entry in cached()} == {small.hash, big.hash, student.hash}
    assert find(other) is None


def test_only_what_is_named_goes(own_cache):
    whole, hurt = train(hard()), train(hard(seed=1))
    cut(hurt.folder / "metrics.json")
    with pytest.raises(Diverged):
        train(hard(lr=1e30))
    assert prune(diverged=True) == 1
    assert prune(damaged=True) == 1
    assert prune(damaged=True, diverged=True) == 0
    assert [entry.hash for entry in cached()] == [whole.run.hash]
    cut(whole.folder / "metrics.json")
    train(hard())  # sets the damaged one aside
    assert prune(damaged=True) == 1
    assert [entry.hash for entry in cached()] == [whole.run.hash]
    assert list((own_cache / "damaged").iterdir()) == []


def test_of_a_run_that_is_linked_into_the_cache_the_link_goes(own_cache, tmp_path):
    linked, hurt, _ = (train(hard(seed=seed)) for seed in range(3))
    for result, place in ((linked, tmp_path / "shared"), (hurt, tmp_path / "hurt")):
        result.folder.rename(place)
        result.folder.symlink_to(place)
    assert find(linked.run) is not None
    cut(tmp_path / "hurt" / "metrics.json")
    train(hurt.run)  # sets the link aside
    (own_cache / "damaged" / "notes.txt").write_text("mine")
    assert prune(damaged=True) == 2
    assert prune() == 3 and cached() == []
    assert (tmp_path / "shared" / "metrics.json").exists() and (tmp_path / "hurt" / "metrics.json").exists()


# ---- carrying elsewhere ----------------------------------------------------------------------------------------------


@pytest.fixture
def colleague(own_cache, tmp_path, monkeypatch):
    """A folder with a student, its teachers and a diverged run, and an empty cache to take it into."""
    student = train(taught(train(hard(width=4)).run, train(hard(width=3)).run))
    train(hard(seed=9))
    with pytest.raises(Diverged):
        train(hard(lr=1e30))
    folder = tmp_path / "for a colleague"
    assert len(export_runs(folder)) == 5
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "elsewhere"))
    return folder, student


def test_a_named_run_travels_with_its_teachers(own_cache, tmp_path):
    student = train(taught(train(hard(width=4)).run, train(hard(width=3)).run))
    train(hard(seed=9))
    chosen = export_runs(tmp_path / "some", [student.run.hash])
    assert set(chosen) == {student.run.hash, *(run.hash for run in student.run.teachers.values())}
    assert folders(tmp_path / "some") == {name: folders(own_cache / "runs")[name] for name in chosen}
    with pytest.raises(KitError, match="run 'nothing' is not in the cache"):
        export_runs(tmp_path / "some", ["nothing"])


def test_what_is_taken_in_is_what_was_given(colleague, own_cache, tmp_path):
    folder, student = colleague
    taken, refused = import_runs(folder)
    assert (len(taken), refused) == (5, [])
    assert folders(tmp_path / "elsewhere" / "runs") == folders(own_cache / "runs")
    assert find(student.run).metrics == student.metrics
    assert import_runs(folder) == (taken, [])  # again: nothing to do
    assert export_runs(folder) != []  # likewise


def test_a_parcel_holds_a_run_and_nothing_else(colleague, own_cache, tmp_path, monkeypatch):
    folder, _ = colleague
    for name in folders(folder):
        monkeypatch.setenv("KIT_CACHE", str(own_cache))
        parcel = packed(name)
        monkeypatch.setenv("KIT_CACHE", str(tmp_path / "elsewhere"))
        assert unpacked(name, parcel) is None
        assert unpacked(name, parcel) is None  # again: nothing to do
    assert folders(tmp_path / "elsewhere" / "runs") == folders(own_cache / "runs")
    with pytest.raises(KitError, match=f"run {'0' * 16} cannot be read from "):
        packed("0" * 16)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"student.safetensors": b"other"}, "student.safetensors does not match its checksum"),
        ({"metrics.json": None}, "metrics.json is missing"),
        ({"checksums.json": None}, "checksums.json is missing or unreadable"),
        ({"checksums.json": b"{}"}, "checksums.json does not list the run's files"),
        ({"../escaped": b""}, "'../escaped' is not a run's file"),
        ({"diverged.json": b"{}"}, "checksums.json does not list the run's files"),
    ],
)
def test_a_damaged_parcel_is_refused(changed, why, own_cache, tmp_path, monkeypatch):
    run = train(hard()).run
    parcel = {name: content for name, content in (packed(run.hash) | changed).items() if content is not None}
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "elsewhere"))
    assert unpacked(run.hash, parcel) == why
    assert unpacked("0123456789abcdef", parcel) is not None  # nor is it another run
    assert unpacked("../../0123456789", parcel) is not None
    assert not [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_what_is_damaged_is_refused_and_the_rest_taken(colleague, capsys):
    folder, student = colleague
    cut(folder / student.run.hash / "student.safetensors")
    assert main(["cache", "import", str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out == f"4 runs from {folder} are in the cache\n"
    said = "student.safetensors does not match its checksum"
    assert captured.err == f"run '{student.run.hash}' is not imported: {said}\n"
    assert find(student.run) is None


def test_nothing_from_outside_the_folder_is_taken(colleague, tmp_path):
    folder, student = colleague
    name = student.run.hash
    secret = tmp_path / "secret"
    secret.write_bytes((folder / name / "metrics.json").read_bytes())
    (folder / name / "metrics.json").unlink()
    (folder / name / "metrics.json").symlink_to(secret)
    other = next(path for path in folder.iterdir() if path.name != name)
    os.rename(other, tmp_path / "moved")
    other.symlink_to(tmp_path / "moved")
    (folder / "0123456789abcdef").mkdir()
    shutil.copytree(tmp_path / "moved", folder / "aaaaaaaaaaaaaaaa")
    taken, refused = import_runs(folder)
    assert len(taken) == 3
    assert len(refused) == 4
    for line in (
        f"run '{name}' is not imported: metrics.json is not a plain file",
        f"run '{other.name}' is not imported: a link, not a folder",
        f"run 'aaaaaaaaaaaaaaaa' is not imported: run.json describes run {other.name}",
        "run '0123456789abcdef' is not imported: checksums.json is missing or unreadable",
    ):
        assert line in refused
    assert {entry.hash for entry in cached()} == set(taken)


def test_files_beside_a_runs_own_stay_behind(colleague):
    folder, student = colleague
    (folder / student.run.hash / "notes.pkl").write_bytes(b"not for you")
    import_runs(folder)
    assert "notes.pkl" not in {path.name for path in find(student.run).folder.iterdir()}


def test_a_damaged_run_does_not_travel_and_is_named(tmp_path, capsys):
    whole, hurt = train(hard()), train(hard(seed=1))
    cut(hurt.folder / "metrics.json")
    why = "metrics.json does not match its checksum"
    assert main(["cache", "export", str(tmp_path / "all")]) == 0
    assert capsys.readouterr().err == f"run {hurt.run.hash} is left out: {why}\n"
    assert set(folders(tmp_path / "all")) == {whole.run.hash}
    assert main(["cache", "export", str(tmp_path / "one"), hurt.run.hash[:6]]) == 2
    assert capsys.readouterr().err == f"error: run {hurt.run.hash}: {why}; allowed: whole, unaltered runs\n"
    assert main(["cache", "export", str(tmp_path / "one"), hurt.run.hash[:5]]) == 2
    assert "by six digits or more" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()


def test_a_folder_that_is_not_there(capsys, tmp_path):
    assert main(["cache", "import", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"error: folder {str(tmp_path / 'nowhere')!r} is not there\n"


# ---- others at the same time -----------------------------------------------------------------------------------------


class Counted(HardLabels):
    """Hard labels; each training that begins with it writes a line."""

    kind: str = "counted"
    log: str

    def __call__(self, at: Moment):
        if at.progress == 0:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()}\n")
        return super().__call__(at)


def counted(log: Path, seed: int) -> Run:
    stage = Stage(name="counted", objective=Counted(log=str(log)), until=1)
    return Run(**dict(hard(seed=seed)) | {"recipe": Recipe(stages=(stage,), epochs=6, batch=16, pad=1)})


def ask(log: Path, together: Barrier) -> None:
    together.wait()
    with ThreadPoolExecutor(10) as pool:
        for seed in range(2):
            list(pool.map(train, [counted(log, seed)] * 10))


def test_two_processes_and_twenty_identical_requests_train_each_run_once(own_cache, tmp_path):
    log, together = tmp_path / "begun", context.Barrier(2)
    both = [forked(ask, log, together, output=tmp_path) for _ in range(2)]
    for process in both:
        process.join(120)
        assert process.exitcode == 0, (tmp_path / "stderr").read_text()
    assert len(log.read_text().splitlines()) == 2
    assert all(find(counted(log, seed)) is not None for seed in range(2))


def hold(held: Event) -> None:
    with locked(folder_of(hard().hash)):
        held.set()
        time.sleep(600)


def test_a_killed_holders_lock_is_free(own_cache):
    held = context.Event()
    process = forked(hold, held)
    assert held.wait(120)
    process.kill()
    process.join()
    assert train(hard()).metrics["test_top1"] >= 0


# ---- other users -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600), (2, 0o775, 0o664)])
def test_the_umask_decides_who_may_read_a_run(umask, folder, file):
    before = os.umask(umask)
    try:
        place = train(hard()).folder
    finally:
        os.umask(before)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (place, *place.iterdir())} == {
        place.name: folder,
        **dict.fromkeys((*FILES, CHECKSUMS), file),
    }


@pytest.fixture
def shared(monkeypatch):
    """A cache with a teacher and its logits in which everybody may write; `root` may go on as another user in it."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("only root may act as another user")
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        monkeypatch.setenv("KIT_CACHE", place)
        student = taught(train(hard()).run)
        list(compute_logits(student, "big", range(3)))
        train(taught(hard(), seed=1))  # all that has to be imported for it, nobody might not find
        (Path(place) / "checkpoints").mkdir()
        for folder in (Path(place), *Path(place).iterdir()):
            folder.chmod(0o1777)
        try:
            yield student
        finally:
            os.seteuid(0)


def test_what_another_user_has_trained_and_cached_is_used(shared, capsys):
    os.seteuid(65534)
    assert train(shared).metrics["cached_logits_images"] > 0
    assert capsys.readouterr().err == ""


def test_what_another_user_keeps_private_is_no_damage(shared):
    folder = folder_of(hard().hash)
    before = folders(folder.parent)
    for closed, name in ((folder / "student.safetensors", "student.safetensors"), (folder, folder.name)):
        os.seteuid(0)
        closed.chmod(0)
        os.seteuid(65534)
        why = f"{name} cannot be read (Permission denied)"
        assert next(entry.complaint for entry in cached() if entry.hash == folder.name) == why
        for use in (hard(), shared):
            with pytest.raises(KitError, match=f"run {folder.name} in .*: {re.escape(why)}$"):
                train(use)
        assert prune(damaged=True) == 0
    os.seteuid(0)
    assert folders(folder.parent) == before


# ---- disks that cannot take it ---------------------------------------------------------------------------------------


def mounted(place: Path, *options: str) -> Iterator[Path]:
    """A small file system of its own. Skips, saying why, where this machine does not allow one to be mounted."""
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(place)], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    if shutil.which("mount") is None:
        pytest.skip("no mount command here")
    for place in mounted(tmp_path / "disk", "-o", "size=256k"):
        monkeypatch.setenv("KIT_CACHE", str(place))
        yield place


def test_a_full_disk_is_told_in_one_line_and_harms_nothing(small_disk):
    kept = train(hard())
    (small_disk / "filler").write_bytes(b"x" * _free(small_disk))
    for width in (2, 8):
        with pytest.raises(KitError) as raised:
            train(hard(seed=1, width=width))
        message = str(raised.value)
        assert message.startswith(f"cannot write to {small_disk}")
        assert "No space left on device" in message
        assert "\n" not in message
    assert left_in(small_disk) == [kept.run.hash]
    assert find(kept.run).metrics == kept.metrics
    (small_disk / "filler").unlink()
    assert train(hard(seed=1)).metrics["test_top1"] >= 0


def test_a_disk_too_full_for_checkpoints_costs_them_alone(own_cache, monkeypatch, capsys):
    whole = train(hard(seed=1))
    monkeypatch.setenv("KIT_CHECKPOINT_S", "0")
    for _ in mounted(own_cache / "checkpoints", "-o", "size=4k"):
        result = train(hard())
    notes = json.loads((result.folder / "run.json").read_text())["notes"]
    assert len(notes) == 4  # two epochs of two steps
    assert all(re.match(r"no checkpoint at step \d: cannot write to .*No space left on device", note) for note in notes)
    assert json.loads((whole.folder / "run.json").read_text())["notes"] == []
    assert len(capsys.readouterr().err.splitlines()) == 4


def _free(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def test_a_read_only_cache_is_read_and_not_written(small_disk):
    kept = train(hard())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert train(hard()).metrics == kept.metrics
    with pytest.raises(KitError, match="cannot write to .*: Read-only file system") as raised:
        train(hard(seed=1))
    assert "\n" not in str(raised.value)
    assert left_in(small_disk) == [kept.run.hash]
