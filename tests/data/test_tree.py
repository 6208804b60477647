"""Trees as they come: folders drawn by machine, and members of each kind of trouble by hand."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import one_line
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_trees import build_tree, picture
from PIL import Image

from kit.data import load, roles
from kit.data.base import each_class
from kit.data.check import check
from kit.data.folder import folder_dataset
from kit.data.roles import find_real
from kit.data.tree import find_tree, read_tree
from kit.errors import KitError
from kit.paper.plan import _say_few
from kit.paper.settings import Settings
from kit.runs.spec import DataSpec

TREES = int(os.environ.get("KIT_TREES", "300"))

# ---- drawn by machine -----------------------------------------------------------------------------------------------

COLOURS = [(r, g, b) for r in range(0, 256, 51) for g in range(0, 256, 51) for b in range(0, 256, 51)]  # 216


@cache
def solid(number: int, kind: str, side: int) -> bytes:
    """An image of one colour, by which it is known again."""
    out = io.BytesIO()
    Image.new("RGB", (side, side + number % 5), COLOURS[number]).save(out, kind)
    return out.getvalue()


GOOD = st.sampled_from(
    [b"a.png", b"B.PNG", b"c.jpeg.png", b"d.bmp", b"e.tiff", b"f.ppm", b"g.tga", b"\xff\xfe.png", "é.png".encode(),
     "é.png".encode(), b" .png", b"-rf.png", b"new\nline.png", b"%s.png", b"z" * 200 + b".png", b"h: i.png"]
)  # fmt: skip
OTHER = st.sampled_from([b"notes.txt", b"Thumbs.db", b".DS_Store", b"._a.png", b".hidden.png", b"png", b"x.png.part"])
WITHIN = st.sampled_from([b"", b"", b"more", b"more/still", b"x.png", b".cache", b"__MACOSX", b"@eaDir", b"\xe9t\xe9"])
LINKS = st.sampled_from(
    [b".", b"..", b"../..", b"../../..", b"nowhere", b"loop", b"a.png", b"more", b"../dog", b"/dev"]
)
CLASSES = st.lists(
    st.sampled_from(
        [b"cat", b"dog", b"Dog", b"cafe", "café".encode(), b"\xff", b"0", b"10", b"train", b"a b", b"x.png"]
    ),
    min_size=1, max_size=4, unique=True,
).filter(lambda names: names != [b"train"])  # fmt: skip  # alone, it is a split that was unpacked into one
SPLITS = st.tuples(
    st.sampled_from([b"train", b"Train", b"TRAINING", b"trainset"]),
    st.sampled_from([b"test", b"val", b"Valid", b"validation", b"TEST"]),
)
KINDS = {b".bmp": "BMP", b".tiff": "TIFF", b".ppm": "PPM", b".tga": "TGA"}


@st.composite
def trees(draw) -> list[tuple[str, bytes, object]]:
    """What to make: images (path, number of the colour), other files, empty and damaged ones, links, queues."""
    made: list[tuple[str, bytes, object]] = []
    numbers = iter(range(len(COLOURS)))
    train, test = draw(SPLITS)
    for name in draw(CLASSES):
        for split in (train, test):
            folder = split + b"/" + name + b"/"
            made.append(("image", folder + b"first.png", next(numbers)))
            for _ in range(draw(st.integers(0, 4))):
                what = draw(st.sampled_from(["image", "image", "image", "other", "cut", "empty", "link", "queue"]))
                place = folder + draw(WITHIN) + b"/"
                if what == "link":
                    made.append((what, place + draw(st.sampled_from([b"l", b"l.png"])), draw(LINKS)))
                else:
                    made.append((what, place + draw(OTHER if what == "other" else GOOD), next(numbers)))
    for place in draw(st.lists(st.sampled_from([b"", b"spare/", b".git/", train + b"/", test + b"/.x/"]), max_size=3)):
        made.append(("image", place + draw(GOOD), next(numbers)))
    return made


def make(root: Path, made: list[tuple[str, bytes, object]]) -> dict[str, int]:
    """Makes it, what comes first where two are of one name; returns each image's colour by its real path."""
    images = {}
    for what, name, value in made:
        path = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                continue
            if what == "link":
                path.symlink_to(os.fsdecode(value))
            elif what == "queue":
                os.mkfifo(path)
            else:
                kind = KINDS.get(os.fsencode(path.suffix), "PNG")
                content = solid(value, kind, 8 + value % 9)
                path.write_bytes({"other": b"words", "empty": b"", "cut": content[:20]}.get(what, content))
                images |= {str(path): value} if what in ("image", "other") and what != "other" else {}
        except (FileExistsError, NotADirectoryError):  # a file where another would have a folder
            continue
    return images


def snapshot(root: Path) -> list[tuple[str, int, int]]:
    return sorted(
        (os.path.join(here, name), status.st_mtime_ns, status.st_size)
        for here, folders, files in os.walk(root)
        for name in (*folders, *files)
        for status in [os.lstat(os.path.join(here, name))]
    )


def escaped(name: str) -> str:
    """As messages show it: composed accents, bytes that are no UTF-8 as \\xff."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


@settings(max_examples=TREES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(trees(), st.sampled_from(["itself", "role", "outer", "split"]))
def test_every_image_is_in_the_dataset_or_counted_with_a_reason(made, given_as):
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch).resolve()
        root = top / {"role": "CIFAR_10", "outer": "archive"}.get(given_as, "tree")
        images = make(root, made)
        before = snapshot(root)
        first = Path(os.fsdecode(made[0][1])).parts[0]
        folder = {"itself": root, "split": root / first}.get(given_as, top)
        roles._load.cache_clear()
        data = load("cifar-10", px=8, folder=folder)
        assert snapshot(root) == before and data.source == "real"
        tree = read_tree(root)

        seen = []
        for split, half in ((data.train, tree.train), (data.test, tree.test)):
            damaged = {line.rpartition(": ")[0] for line in data.skipped}
            listed = [p for p in half.paths if escaped(f"{half.folder.name}/{p}") not in damaged]
            assert len(set(half.paths)) == len(half.paths) and len(listed) == len(split)
            for path, label, pixels in zip(listed, split.labels.tolist(), split.images.pixels, strict=True):
                real = os.path.realpath(half.folder / path)
                assert torch.equal(
                    pixels, torch.tensor(COLOURS[images[real]]).expand(8, 8, 3)
                )  # an image, and this one
                assert escaped(Path(path).parts[0]) == data.classes[label]
                seen.append(real)

        passed = {line.rpartition(": ")[0] for line in data.passed_over}
        assert all(line.rpartition(": ")[2] for line in data.passed_over)
        for path in images.keys() - set(seen):
            parts = Path(path).relative_to(root).parts
            assert any(escaped("/".join(parts[: n + 1])) in passed for n in range(len(parts))), path
        if given_as == "itself":
            assert check("cifar-10", folder, px=8).fingerprint == data.fingerprint


# ---- members of each kind --------------------------------------------------------------------------------------------


def test_where_a_tree_may_lie(tmp_path):
    """Under the role's name however it is spelt, one folder too deep, one too high, as an archive unpacks."""
    for number, (place, given_as) in enumerate(
        [("CIFAR10", ""), ("cifar_10/archive", ""), ("images", ""), ("", "train"), ("", "val"), ("", "")]
    ):
        top = tmp_path / str(number)
        root = build_tree(top / place)
        assert find_tree("cifar-10", top / given_as) == root
    trains = build_tree(tmp_path / "trains", classes=("train", "plane"))
    assert find_real("own", trains / "train", True) == ("tree", trains)  # of which a class is called as the split is
    twice = build_tree(tmp_path / "twice")
    for split in ("train", "val"):
        shutil.move(twice / split, twice / "inner")
        shutil.move(twice / "inner", twice / split / split)
    assert len(read_tree(twice).train) == 8


def test_other_roles_trees_and_several_are_not_taken(tmp_path):
    for other in ("cifar-100", "ImageNet", "HRSC2016"):
        build_tree(tmp_path / other)
    assert find_tree("cifar-10", tmp_path) is None
    build_tree(tmp_path / "a"), build_tree(tmp_path / "b")
    with pytest.raises(KitError, match=r"holds 2 trees, a/, b/; allowed: one of them"):
        find_tree("cifar-10", tmp_path)


def test_a_test_folder_without_classes_gives_way_to_val(tmp_path):
    """As ImageNet's, whose test images have no labels."""
    build_tree(tmp_path)
    (tmp_path / "test").mkdir()
    picture(1).save(tmp_path / "test" / "1.png")
    tree = read_tree(tmp_path)
    assert tree.test.folder.name == "val" and tree.passed_over == ("test: in neither split",)


def test_tiny_imagenet_as_it_is_published(tmp_path):
    """Each class's images a folder deeper, those of `val` in one with a list, and a test split without classes."""
    plain = build_tree(tmp_path / "plain", classes=("n02", "n01"), per_class=(3, 2))
    root = shutil.copytree(plain, tmp_path / "tiny-imagenet-200")
    lines = []
    for half, name in product(("train", "val"), ("n02", "n01")):
        folder = root / half / name if half == "train" else root / half
        (folder / "images").mkdir(exist_ok=True)
        for i, file in enumerate(sorted((root / half / name).glob("*.png"))):
            file.rename(folder / "images" / f"{name}_{i}.png")
            lines += [f"{name}_{i}.png\t{name}\t0\t32\t44\t62\n"] * (half == "val")
        if half == "val":
            (root / half / name).rmdir()
    (root / "val" / "val_annotations.txt").write_text("".join(lines) + "gone.png\tn01\t0\t0\t1\t1\n")
    picture(5).save(root / "val" / "images" / "odd.png")
    (root / "test" / "images").mkdir(parents=True)
    picture(6).save(root / "test" / "images" / "test_0.png")
    tiny, expected = (load("cifar-10", px=8, folder=folder) for folder in (root, plain))
    assert (tiny.classes, tiny.fingerprint) == (expected.classes, expected.fingerprint)
    assert tiny.passed_over == (
        "val/images/odd.png: without a class in val_annotations.txt",
        "val/images/gone.png: not there, though in val_annotations.txt",
    )
    assert tiny.left_out == ("test/ (1 image), as val/ is the test split",)


def test_classes_that_read_alike(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    build_tree(tmp_path / "across", classes=("a", composed))
    (tmp_path / "across" / "val" / composed).rename(tmp_path / "across" / "val" / apart)
    assert read_tree(tmp_path / "across").classes == ("a", composed)
    build_tree(tmp_path / "both", classes=("a", composed, apart))
    with pytest.raises(KitError, match="two folders that read 'café'"):
        read_tree(tmp_path / "both")
    build_tree(tmp_path / "letters", classes=("a", "A"))
    assert read_tree(tmp_path / "letters").classes == ("A", "a")  # as letters are
    build_tree(tmp_path / "case", classes=("Ant", "bee"))
    (tmp_path / "case" / "val" / "Ant").rename(tmp_path / "case" / "val" / "ant")
    with pytest.raises(KitError, match=r"class 'Ant' is only in train/ \(the other has 'ant'\)"):
        read_tree(tmp_path / "case")


def test_very_many_classes(tmp_path):
    names = [f"n{i:05d}" for i in range(1500)]
    for split in ("train", "test"):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.png").write_bytes(b"not opened")
    tree = read_tree(tmp_path)
    assert list(tree.classes) == names and tree.train.labels.tolist() == list(range(1500))


def test_each_class_has_its_positions():
    labels = torch.tensor([2, 0, 2, 4, 0])
    assert [positions.tolist() for positions in each_class(labels)] == [[1, 4], [], [0, 2], [], [3]]


def test_a_class_that_links_to_its_split_is_passed_over(tmp_path):
    build_tree(tmp_path)
    (tmp_path / "train" / "loop").symlink_to(".")
    (tmp_path / "train" / "ant" / "up").symlink_to("..")
    tree = read_tree(tmp_path)
    assert tree.classes == ("ant", "bee") and len(tree.train) == 8
    assert set(tree.passed_over) == {f"train/{name}: a folder that is read already" for name in ("loop", "ant/up")}


@pytest.mark.parametrize("streamed", [False, True])
def test_names_that_are_not_utf_8(tmp_path, streamed, capsys):
    build_tree(tmp_path)
    odd = os.fsdecode(b"\xe9t\xe9")
    for split in ("train", "val"):
        (tmp_path / split / "ant").rename(tmp_path / split / odd)
        (tmp_path / split / odd / os.fsdecode(b"\xff.png")).write_bytes(b"")
    data = folder_dataset(tmp_path, "imagenet", 8, streamed=streamed)
    assert data.classes == (r"\xe9t\xe9", "bee")
    assert data.skipped == tuple(rf"{split}/\xe9t\xe9/\xff.png: an empty file" for split in ("train", "val"))
    print(*data.classes, *data.skipped, sep="\n")  # can be


def test_moved_or_renamed_images_are_the_same_run(tmp_path):
    specs = []
    for name in ("ships-2016", "mine"):
        build_tree(tmp_path / name)
        specs.append(DataSpec.of("cifar-10", 8, folder=tmp_path / name))
    first, second = specs
    assert first.model_dump(mode="json") == second.model_dump(mode="json")
    assert (first.name, second.name) == ("image folder ships-2016", "image folder mine")  # in captions


def test_check_counts_what_is_passed_over(tmp_path, capsys):
    from kit.__main__ import main

    build_tree(tmp_path)
    (tmp_path / "train" / "readme.md").write_text("words")
    (tmp_path / "train" / "ant" / "a.heic").write_bytes(b"not read")
    (tmp_path / "train" / "ant" / ".a.png").write_bytes(b"not read")
    assert main(["data", "check", "cifar-10", "--data", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "3 passed over (" in said and "1 hidden" in said and "1 no image by its name" in said
    assert "1 in no class's folder" in said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_a_folder_that_may_not_be_read_is_one_line_and_a_private_one_beside_a_tree_no_matter():
    """To a user without root's rights: what cannot be listed, and what can be but not entered."""
    program = """
import os, sys
from pathlib import Path
from kit.data import cifar, roles, tree
from kit.data.hrsc import format
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
for top in map(Path, sys.argv[1:]):
    print(roles.find_real("own", top, True))
    for read, place in (tree.read_tree, "pets"), (roles.real_folder, "private"), (roles.real_folder, "private/x"):
        try:
            read(top / place)
        except tree.KitError as error:
            print(error)
"""
    closed = {"val": 0, "train": 0o400, "train/ant": 0}
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        tops = [Path(scratch).resolve() / str(number) for number in range(len(closed))]
        places = [build_tree(top / "pets") / place for top, place in zip(tops, closed, strict=True)]
        for top, place, mode in zip(tops, places, closed.values(), strict=True):
            (top / "private").mkdir(mode=0)
            place.chmod(mode)
        run = subprocess.run(
            [sys.executable, "-c", program, *map(str, tops)], capture_output=True, text=True, cwd="/",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        for place in places:
            place.chmod(0o700)
    found, said, private, within = (run.stdout.splitlines()[i::4] for i in range(4))
    assert all(f"{top}/private cannot be read (Permission" in line for top, line in zip(tops, private, strict=True))
    assert all(f"{top}/private/x' is not there; " in line for top, line in zip(tops, within, strict=True))
    assert found == [f"('tree', {top / 'pets'!r})" for top in tops], run.stderr
    for line, place in zip(said, places, strict=True):
        assert line.startswith(str(place)) and "cannot be read (Permission denied); allowed: " in line


def test_a_class_whose_chosen_images_are_damaged_is_told_from_one_without_any(tmp_path):
    build_tree(tmp_path)
    half = read_tree(tmp_path).train.choose(1)
    (half.folder / half.paths[0]).write_bytes(b"")
    with pytest.raises(KitError) as raised:
        folder_dataset(tmp_path, "cifar-10", 8, 1, streamed=False)
    assert "train/ant holds no readable image among the 1 chosen; allowed" in one_line(raised)
    assert folder_dataset(tmp_path, "cifar-10", 8, 2, streamed=False).train.labels.tolist() == [0, 1, 1]


def test_gif_and_its_like_are_images(tmp_path):
    build_tree(tmp_path)
    for ending in ("gif", "jp2", "avif", "tga"):
        picture(3).save(tmp_path / "train" / "ant" / f"new.{ending}")
    data = folder_dataset(tmp_path, "cifar-10", 20, streamed=False)
    assert len(data.train) == 12 and data.skipped == () and np.isin(data.train.labels, (0, 1)).all()


@pytest.mark.parametrize(("batch", "says"), [(3, ""), (5, "an epoch, by 5 of 8 training images;"), (99, "by 8 of 8")])
def test_an_own_folder_whose_epoch_is_one_batch_is_told_so_once(own_cache, tmp_path, capsys, batch, says):
    _say_few.cache_clear()
    tree = build_tree(tmp_path / "tree", per_class=(4, 2))
    settings = Settings(student="cnn", teacher="cnn", role="cifar-10", preset="smoke", data=str(tree), batch=batch)
    assert settings.run() == settings.run()
    said = capsys.readouterr().err
    assert says in said and said.count("hint:") == bool(says)
