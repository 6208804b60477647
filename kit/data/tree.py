"""An ImageFolder tree on disk: `train/` and `test/` or `val/`, a folder a class. `docs/images.md` says what counts."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kit.data.base import IMAGE_FOLDER, first_per_class
from kit.data.picture import EXTENSIONS
from kit.errors import KitError, few

TRAIN = ("train", "training", "trainset", "train_set", "training_set")
TEST = ("test", "val", "valid", "validation", "testing", "testset", "test_set", "val_set", "eval", "dev")
LAYOUT = "train/ and test/ or val/, each with a folder a class"
LISTED = "val_annotations.txt"  # Tiny-ImageNet's: beside `images`, a line of each of its images and its class
SYSTEM = ("__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir", "#recycle")


@dataclass(frozen=True)
class Half:
    """One split of a tree: its folder, its images' paths below it (with /), and their labels (N,)."""

    folder: Path
    paths: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def choose(self, per_class: int | None) -> Half:
        """Chooses at most `per_class` images of every class, always the same ones, and part of any larger choice."""
        return self.only(first_per_class(self.labels, per_class, self.paths).tolist())

    def named(self, path: str) -> str:
        """Shows an image's path below the tree's root."""
        return shown(f"{self.folder.name}/{path}")

    def only(self, indices: Sequence[int]) -> Half:
        return Half(
            self.folder, tuple(self.paths[i] for i in indices), self.labels[torch.tensor(indices, dtype=torch.int64)]
        )


@dataclass(frozen=True)
class Tree:
    """A tree's two splits; `left_out` says which further splits are not used, `passed_over` are the files and folders
    that are in none, each with its reason."""

    classes: tuple[str, ...]
    train: Half
    test: Half
    passed_over: tuple[str, ...]
    left_out: tuple[str, ...]


# ---- where a tree is ------------------------------------------------------------------------------------------------


def find_tree(role: str, folder: Path, nested: bool = True) -> Path | None:
    """Finds an ImageFolder tree for the role: a folder of the role's name, else the folder itself, else nowhere.

    Either may hold the tree one folder further down, the folder only if `nested`: where it was given for this role. One
    that is a split of a tree stands for that tree. KitError for several.
    """
    halves = [split_of(folder.parent, names) for names in (TRAIN, TEST)]
    if all(halves) and any(half and folder in (half, half.parent) for half in halves):
        return folder.parent
    for child in folders_in(folder):
        if spelt(child.name) == spelt(role):
            return tree_at(child) or child
    return tree_at(folder, nested)


def tree_at(folder: Path, nested: bool = True) -> Path | None:
    """Finds a tree in the folder or, if `nested` and there is just one, in a folder of it that no other role claims."""
    if split_of(folder, TRAIN) or split_of(folder, TEST):
        return folder
    children = folders_in(folder) if nested else []
    deeper = [child for child in children if split_of(child, TRAIN) and spelt(child.name) not in CLAIMED]
    if len(deeper) > 1:
        names = few([f"{shown(child.name)}/" for child in deeper])
        raise KitError(f"{folder} holds {len(deeper)} trees, {names}; allowed: one of them")
    return deeper[0] if deeper else None


def split_of(root: Path, names: Sequence[str]) -> Path | None:
    """Finds the split's folder, in small letters or capitals: by the first of the names under which it has classes."""
    children = [] if is_annotated(root) else folders_in(root)
    called = [child for name in names for child in children if child.name.casefold() == name]
    unpacked = [
        inner
        if os.path.isdir(inner := child / child.name) and folders_in(child) == [inner] and len(folders_in(inner)) > 1
        else child
        for child in called
    ]
    return next(filter(has_classes, unpacked), next(iter(unpacked), None))


def has_classes(split: Path) -> bool:
    """Says whether a split has class folders: `images` alone is none, where a tree's test images have no labels."""
    return is_listed(split) or folders_in(split) not in ([], [split / "images"])


def is_listed(split: Path) -> bool:
    """Whether a split is as Tiny-ImageNet's own: all images in one folder, and a file that says their classes."""
    return os.path.isfile(split / LISTED) and folders_in(split) == [split / "images"]


def is_annotated(root: Path) -> bool:
    """Whether it is a tree of scenes and annotations, whose folders are no classes (see `kit.data.hrsc.format`)."""
    halves = [os.path.isdir(root / half / "Annotations") for half in ("Train", "Test")]
    return all(halves) or os.path.isdir(root / "FullDataSet" / "Annotations")


def folders_in(folder: Path) -> list[Path]:
    """Lists the folders in a folder, sorted, without the hidden and the system's; none where it cannot be read."""
    try:
        return sorted(child for child in folder.iterdir() if not is_hidden(child.name) and child.is_dir())
    except OSError:
        return []


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in SYSTEM


def spelt(name: str) -> str:
    """Spells a name without what people spell differently: CIFAR_10, cifar10 and cifar-10 are one."""
    return "".join(filter(str.isalnum, name.casefold()))


CLAIMED = {spelt(role) for role in ("cifar-10", "cifar-100", "imagenet", "hrsc2016")}


def shown(name: str) -> str:
    """Shows a file's name, whatever its bytes: those that are no UTF-8 as \\xff, accents composed."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def titled(root: Path) -> str:
    """Names a tree of real images after its folder."""
    return f"{IMAGE_FOLDER} {shown(root.name)}"


# ---- what is in it --------------------------------------------------------------------------------------------------


@contextmanager
def reading() -> Iterator[None]:
    """Turns what the system says against reading a folder into a KitError of one line."""
    try:
        yield
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
        raise KitError(f"{error.filename} {why}; allowed: folders that may be listed and entered") from None


@reading()
def read_tree(root: Path) -> Tree:
    """Lists a tree in the order of torchvision's ImageFolder: classes and files sorted.

    KitError for a missing split, a split without classes, a class without images, splits whose classes differ, and
    what cannot be read.
    """
    train_folder, test_folder = split_of(root, TRAIN), split_of(root, TEST)
    if train_folder is None or test_folder is None:
        missing = "test/ or val/" if train_folder else "train/"
        holds = few([f"{shown(child.name)}/" for child in folders_in(root)], 8) or "no folder"
        raise KitError(f"{root} has no {missing}, but {holds}; allowed: {LAYOUT}")
    passed: list[str] = []
    train_classes, train = read_half(root, train_folder, passed)
    test_classes, test = read_half(root, test_folder, passed)
    if train_classes != test_classes:
        lone = min(set(train_classes) ^ set(test_classes))
        here, there = (train_folder, test_classes) if lone in train_classes else (test_folder, train_classes)
        alike = next((f" (the other has {name!r})" for name in there if spelt(name) == spelt(lone)), "")
        where = f"{here.relative_to(root)}/"
        raise KitError(f"{root}: class {lone!r} is only in {where}{alike}; allowed: the same classes in both")
    kept = {train_folder, test_folder, *train_folder.parents, *test_folder.parents}
    left = []
    for folder in sorted({root, train_folder.parent, test_folder.parent}):
        for path in sorted(folder.iterdir()):
            name = shown(str(path.relative_to(root)))
            if path not in kept and path.name.casefold() in (*TRAIN, *TEST) and folders_in(path):
                images = len(list(images_below(path, (), lambda *_: None)))
                half, used = ("training", train_folder) if path.name.casefold() in TRAIN else ("test", test_folder)
                held = f"{images:,} image{'s' * (images != 1)}"
                left.append(f"{name}/ ({held}), as {shown(used.name)}/ is the {half} split")
            elif path not in kept and (path.is_dir() or path.name.lower().endswith(EXTENSIONS)):
                passed.append(f"{name}: {'hidden' if is_hidden(path.name) else 'in neither split'}")
    return Tree(tuple(train_classes), train, test, tuple(passed), tuple(left))


LOOP = "a folder that is read already"


def read_half(root: Path, split: Path, passed: list[str]) -> tuple[list[str], Half]:
    """Lists a split's classes and images; what it passes over goes into `passed`."""
    above = {split.resolve(), *split.resolve().parents}
    folders: dict[str, Path] = {}

    def passes(path: Path, reason: str) -> None:
        passed.append(f"{shown(path.relative_to(root).as_posix())}: {reason}")

    if is_listed(split):
        return read_listed(split, above, passes)
    for path in sorted(split.iterdir()):
        name = shown(path.name)
        if is_hidden(path.name):
            passes(path, "hidden")
        elif not path.is_dir():
            passes(path, "in no class's folder")
        elif path.resolve() in above:
            passes(path, LOOP)
        elif name in folders:
            raise KitError(f"{split} has two folders that read {name!r}; allowed: classes of different names")
        else:
            folders[name] = path
    if not folders:
        raise KitError(f"{split} has no class folders; allowed: {LAYOUT}")
    classes, paths, labels = sorted(folders), [], []
    for label, name in enumerate(classes):
        found = list(images_below(folders[name], above, passes))
        if not found:
            raise KitError(f"{folders[name]} holds no images; allowed: {', '.join(EXTENSIONS)}")
        paths += [path.relative_to(split).as_posix() for path in found]
        labels += [label] * len(found)
    return classes, Half(split, tuple(paths), torch.tensor(labels, dtype=torch.int64))


def read_listed(split: Path, above: Collection[Path], passes: Callable[[Path, str], None]) -> tuple[list[str], Half]:
    """Lists a split's classes and images by its list, where these lie in one folder."""
    folder, examples = split / "images", []
    rows = (line.split("\t") for line in (split / LISTED).read_text(encoding="utf-8", errors="replace").splitlines())
    named = {row[0]: shown(row[1]) for row in rows if len(row) > 1}
    for path in images_below(folder, above, passes):
        if name := named.pop(path.name, ""):
            examples.append((name, path.relative_to(split).as_posix()))
        else:
            passes(path, f"without a class in {LISTED}")
    for missing in named:
        passes(folder / Path(missing).name, f"not there, though in {LISTED}")
    classes = sorted({name for name, _ in examples})
    label = {name: i for i, name in enumerate(classes)}
    labels = torch.tensor([label[name] for name, _ in sorted(examples)], dtype=torch.int64)
    return classes, Half(split, tuple(path for _, path in sorted(examples)), labels)


def images_below(folder: Path, above: Collection[Path], passes: Callable[[Path, str], None]) -> Iterator[Path]:
    """Yields a class's images, links followed, in torchvision's order; no folder is read twice, so no link loops.

    Raises OSError where the class's own folder cannot be read; one further down is passed over.
    """
    seen, found = {*above, folder.resolve()}, []

    def unreadable(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise error
        passes(Path(error.filename), f"cannot be read ({error.strerror})")

    for here, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        kept = []
        for path in sorted(Path(here, name) for name in folders):
            if is_hidden(path.name):
                passes(path, "hidden")
            elif path.resolve() in seen:
                passes(path, LOOP)
            else:
                seen.add(path.resolve())
                kept.append(path.name)
        folders[:] = kept
        found.append((here, sorted(files)))
    for here, files in sorted(found):
        for path in (Path(here, name) for name in files):
            if is_hidden(path.name):
                passes(path, "hidden")
            elif not path.name.lower().endswith(EXTENSIONS):
                passes(path, "no image by its name")
            elif path.exists() and not path.is_file():
                passes(path, "no plain file")
            else:
                yield path
