"""What fills a role: real images where they are on disk, else an embedded stand-in.

A folder may be an ImageFolder tree or an HRSC2016 tree itself, hold one as `<role>/`, or hold CIFAR as torchvision
extracts it. One that is given and holds nothing for the role is an error; the environment's KIT_DATA may hold some
roles only, and a line says where a stand-in is used for another. A folder that is a tree of anyone's own needs none of
the paper's roles: it fills `OWN`, which has no stand-in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kit.errors import KitError, few, one_of
from kit.runtime.environment import absolute, folder_from, switch

if TYPE_CHECKING:
    from kit.data.base import Dataset

ROLES = ("cifar-10", "cifar-100", "imagenet", "hrsc2016")
OWN = "own"  # the role of a folder that is none of the paper's datasets
EVERY = (*ROLES, OWN)  # that may be named
ON_DISK = ("imagenet", OWN)  # roles whose images may be too many for the memory
SOURCES = ("auto", "embedded", "real")
PX_RANGE = (8, 512)

Layout = Literal["hrsc", "batches", "tree"]  # as published, as torchvision extracts them, a folder a class
Sizes = tuple[int, int | None, int | None]  # px, training and test images a class


def load(
    role: str,
    *,
    px: int,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    source: str = "auto",
    folder: Path | None = None,
    level: str | None = None,
) -> Dataset:
    """Loads what fills a role, every image px × px, at most so many images a class (None: all there are).

    source: `real` only from the folder, `embedded` only the stand-in, `auto` the real one where there is a folder.
    level: of hrsc2016's labels (ship, category, type; None: type), not for other roles.
    folder: where real images are; without it the environment's KIT_DATA, if set. The same arguments give the same
    object. KitError for what is not allowed, a folder that is missing, and real data that is missing or incomplete.
    """
    check_arguments(role, px, train_per_class, test_per_class, source, level)
    given, found = folder is not None, None if source == "embedded" and folder is None else real_folder(folder)
    if source == "auto" and found is None and role != OWN:
        source = "embedded"  # which fills the role then: asked for by either word it is made once
    strict = switch("KIT_STRICT")
    return _load(role, (px, train_per_class, test_per_class), source, found, given, level or "type", strict)


@lru_cache(maxsize=8)
def _load(role: str, sizes: Sizes, source: str, folder: Path | None, given: bool, level: str, strict: bool) -> Dataset:
    if source != "embedded" and folder is not None:
        real = real_dataset(role, sizes, folder, given, level, strict)
        if real is not None:
            return real
        if given or source == "real" or role == OWN:
            raise KitError(f"{_nothing(role, folder)}; allowed: {_real_layout(role)}")
        _warn(f"warning: KIT_DATA: {_nothing(role, folder)}; its stand-in is used")
    elif source == "real" or role == OWN:
        where = "among the stand-ins" if source == "embedded" else "as no folder is given and KIT_DATA names none"
        raise KitError(f"no real images for {role} {where}; allowed: {_real_layout(role)}")
    return _embedded(role, sizes, level)


def filled_by(role: str, source: str = "auto", folder: Path | None = None) -> str:
    """Says with what `load` fills a role when given the same, `real` images or the `embedded` stand-in, and loads none.

    Raises KitError for a folder that is missing.
    """
    where = None if source == "embedded" else real_folder(folder)
    return "real" if where is not None and find_real(role, where, folder is not None) else "embedded"


def find_real(role: str, folder: Path, given: bool) -> tuple[Layout, Path] | None:
    """Finds a role's real images in a folder: how they lie there, and where; None where there are none.

    `given`: for this role, and not by KIT_DATA for any; a tree in it then needs no role's name.
    """
    from kit.data.cifar import find_batches
    from kit.data.hrsc.format import find_hrsc
    from kit.data.tree import find_tree

    if role == "hrsc2016":
        return ("hrsc", root) if (root := find_hrsc(folder)) is not None else None
    if (root := find_batches(role, folder)) is not None:
        return "batches", root
    root = find_tree(folder.name, folder) if role == OWN else find_tree(role, folder, nested=given)
    return ("tree", root) if root is not None else None


def real_dataset(role: str, sizes: Sizes, folder: Path, given: bool, level: str, strict: bool) -> Dataset | None:
    """Loads what `find_real` finds; None where there is nothing."""
    from kit.data.cifar import published_cifar
    from kit.data.folder import folder_dataset
    from kit.data.hrsc.dataset import hrsc_dataset

    match find_real(role, folder, given):
        case "hrsc", root:
            return hrsc_dataset(root, *sizes, level, strict)
        case "batches", root:
            return published_cifar(role, *sizes, root)
        case "tree", root:
            name = tree_name(role, folder, root)
            return folder_dataset(root, role, *sizes, streamed=role in ON_DISK, strict=strict, name=name)
    return None


def tree_name(role: str, folder: Path, root: Path) -> str:
    """Names a tree after its folder; one of anyone's own after the folder that it was unpacked into."""
    from kit.data.tree import titled

    return titled(folder if role == OWN and folder in root.parents else root)


def _nothing(role: str, folder: Path) -> str:
    from kit.data.picture import EXTENSIONS
    from kit.data.tree import folders_in, shown

    children = {shown(child.name): child for child in folders_in(folder)}
    found = few([f"{name}/" for name in children], 8) or "no folder"
    for name, child in children.items():
        _, _, files = next(os.walk(child), ("", [], []))
        if role != "hrsc2016" and any(file.lower().endswith(EXTENSIONS) for file in files):
            found += f", classes in no split: of {name}/ some images go into train/{name}/, others into test/{name}/"
            break
    return f"no real images for {role} in {folder}, which holds {found}"


@lru_cache
def _warn(line: str) -> None:
    """Says it once a process."""
    print(line, file=sys.stderr)


def _real_layout(role: str) -> str:
    if role == "hrsc2016":
        return "an HRSC2016 tree (FullDataSet/{AllImages,Annotations} and ImageSets) there or in hrsc2016/"
    tree = "an ImageFolder tree (train/ and test/ or val/, each with a folder a class) there"
    if role == OWN:
        return f"{tree}; or for what else it holds --role {', '.join(ROLES[:-1])} or {ROLES[-1]}"
    published = "" if role == "imagenet" else f", or {role}'s batches as torchvision extracts them"
    return f"{tree} or in {role}/{published}"


def _embedded(role: str, sizes: Sizes, level: str) -> Dataset:
    if role == "cifar-10":
        from kit.data.digits import digits

        return digits(*sizes)
    if role == "cifar-100":
        from kit.data.generated import generated

        return generated(*sizes)
    if role == "imagenet":
        from kit.data.generated import generated_tree

        return generated_tree(*sizes)
    from kit.data.hrsc.dataset import hrsc_dataset
    from kit.data.hrsc.generated import stand_in

    return hrsc_dataset(stand_in(), *sizes, level)


def real_folder(folder: Path | str | None) -> Path | None:
    """Finds the folder for real data: the one given, else KIT_DATA's; None without either. KitError for no folder, and
    for one that may not be listed."""
    what, named = ("KIT_DATA", folder_from("KIT_DATA")) if folder is None else ("folder", absolute(folder))
    if named is None:
        return None
    if not os.path.isdir(named):
        found = "no folder" if os.path.exists(named) else "not there"
        raise KitError(f"{what} {str(named)!r} is {found}; allowed: an existing folder with real images")
    from kit.data.tree import reading

    with reading(), os.scandir(named):
        return named.resolve()


def check_sources(sources: Mapping[str, str]) -> dict[str, str]:
    """Returns what fills which role. Raises KitError for a role or a source that is not known."""
    for role, source in sources.items():
        one_of(f"source of {one_of('role', role, EVERY)}", source, SOURCES)
    return dict(sources)


def check_arguments(
    role: str,
    px: int,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    source: str = "auto",
    level: str | None = None,
) -> None:
    """Raises KitError for a role, size, count, source or level outside what is allowed."""
    one_of("role", role, EVERY)
    one_of("source", source, SOURCES)
    low, high = PX_RANGE
    if type(px) is not int or not low <= px <= high:
        raise KitError(f"px {px!r} is not allowed; allowed: a whole number from {low} to {high}")
    for what, count in (("train_per_class", train_per_class), ("test_per_class", test_per_class)):
        if count is not None and (type(count) is not int or count < 1):
            allowed = "a whole number from 1 up, or all (of kit.data.load: None)"
            raise KitError(f"{what} {count!r} is not allowed; allowed: {allowed}")
    if level is not None:
        from kit.data.hrsc.format import LEVELS

        if role != "hrsc2016" or level not in LEVELS:
            allowed = f"{', '.join(LEVELS)}, for hrsc2016"
            raise KitError(f"level {level!r} is not allowed for role {role!r}; allowed: {allowed}")
