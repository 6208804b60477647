"""Weights that somebody brings: read without running code, named where they do not fit.

    given = Weights.of("resnet18.pth", network)  # a description: the file's sha256, once it was read and found to fit
    given.into(network.build(), network.title)

A file is safetensors, or torch's and read with `weights_only=True`. Wrappers that trainers put around a state dict, and
prefixes that they put before its names, are taken off.
"""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Set
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kit import recipe
from kit.errors import Described, KitError, few, said
from kit.files import sha256
from kit.networks.named import Network
from kit.runtime.environment import absolute
from kit.runtime.machine import free_memory

ALLOWED = "a safetensors file, or a torch file of a state dict"
# Where trainers put a network's state: timm's first, whose averaged weights are the better ones.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model_state", "model", "net", "network")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")  # of data parallel, torch.compile, Lightning
# What trainers put beside the weights, and is no code: timm's arguments, numbers of NumPy.
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
]
HEAD = ("weight", "bias")  # of a last layer: what other classes have in other shapes
COUNTER = "num_batches_tracked"  # of batch norms: older files have none, and nothing depends on it


class Weights(Described):
    """Describes a file of weights: its sha256, and where it lies on this machine, which is not part of the identity.

    `head` is the name of a network's last layer where that is not read, but trained anew (see `kit.runs.probe`).
    """

    sha256: str
    head: str | None = Field(default=None, exclude_if=lambda head: head is None)
    path: str | None = Field(default=None, exclude=True)

    @classmethod
    def of(cls, path: str | Path, network: Network, head: str | None = None) -> Weights:
        """Describes a file, once its weights were read and fit the network. Raises KitError."""
        place = absolute(path)
        try:
            stat = place.stat()
        except OSError as error:
            raise _unreadable(place, error.strerror or str(error)) from None
        return _described(str(place), (stat.st_mtime_ns, stat.st_size), network, head)

    def into(self, network: nn.Module, title: str) -> nn.Module:
        """Puts the weights into a network. Raises KitError where the file is gone, another one, or does not fit."""
        if self.path is None or not Path(self.path).is_file():
            raise KitError(
                f"weights {self.sha256[:12]} ({self.path or 'no file'}) are not there; allowed: a file that this "
                f"process sees, on each machine that trains"
            )
        place = Path(self.path)
        if sha256(place) != self.sha256:
            raise KitError(f"weights {str(place)!r} have changed since the run was described; allowed: the same file")
        return put(place, network, title, self.head)


@lru_cache(maxsize=64)
def _described(path: str, stamp: tuple[int, int], network: Network, head: str | None) -> Weights:
    place = Path(path)
    if place.is_file() and place.stat().st_size > free_memory() and not zipfile.is_zipfile(place):  # a zip is mapped
        raise _too_large(place)
    put(place, network.build(seed=0), network.title, head)  # of a file that is mapped what fits is read
    return Weights(sha256=sha256(place), head=head, path=path)


def _unreadable(place: Path, why: str) -> KitError:
    return KitError(f"weights {str(place)!r} cannot be read ({why}); allowed: {ALLOWED}")


class Given(recipe.Recipe):
    """Trains nothing: the network of a run with this recipe is as its weights were given, measured and stored."""

    stages: tuple[recipe.Stage, ...] = recipe.hard_labels()
    epochs: int = Field(default=0, ge=0, le=0)


# ---- reading ------------------------------------------------------------------------------------------------------


def _read(place: Path) -> dict[str, Tensor]:
    """Reads a state dict. Raises KitError where the file is none, or holds code."""
    try:
        if _is_safetensors(place):
            return load_file(place)
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of programs, which are refused below
            content = torch.load(place, "cpu", weights_only=True, mmap=zipfile.is_zipfile(place))
    except SafetensorError as error:
        raise _unreadable(place, said(error)) from None
    except MemoryError:
        raise _too_large(place) from None
    except Exception as error:  # torch's unpickler raises of all kinds
        if "allocate memory" in str(error):
            raise _too_large(place) from None
        if isinstance(error, OSError) and error.filename is not None:
            raise _unreadable(place, error.strerror or str(error)) from None
        if "TorchScript" in str(error):
            raise _unreadable(place, "it is a TorchScript program, which is code") from None
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it holds code, {code[1]}, which is not run" if code else f"{type(error).__name__}, it may be cut short"
        raise _unreadable(place, why) from None
    return unwrapped(content, place)


def _is_safetensors(place: Path) -> bool:
    with place.open("rb") as file:
        return file.read(9)[8:] == b"{"  # eight bytes of length, then JSON


def _too_large(place: Path) -> KitError:
    return _unreadable(place, f"its {place.stat().st_size / 1e9:.1f} GB do not fit the memory")


def unwrapped(content: Any, place: Path) -> dict[str, Tensor]:
    """Takes the wrappers off a state dict. Raises KitError where there is none inside."""
    for _ in WRAPPERS:  # no more than there are: a dictionary may hold itself
        named = content if isinstance(content, Mapping) else {}
        # an empty one, as where no average was kept, is none
        content = next((named[n] for n in WRAPPERS if isinstance(named.get(n), Mapping) and named[n]), content)
    named = content if isinstance(content, Mapping) else {}
    tensors = {str(name): value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = f" of {few([*map(str, content)]) or 'nothing'}" if isinstance(content, Mapping) else ""
        kind = f"a {type(content).__name__}{keys}"
        raise _unreadable(place, f"it holds {kind}, no state dict")
    return tensors


def renamed(tensors: Mapping[str, Tensor], names: Set[str]) -> dict[str, Tensor]:
    """Takes off the prefixes that all of a state dict's names have, as long as no fewer of the network's are met."""
    found = {name: tensor for name, tensor in tensors.items() if name != "n_averaged"}  # of torch's averaged models
    for prefix in PREFIXES * 2:
        if all(name.startswith(prefix) for name in found):
            bare = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
            found = bare if len(bare.keys() & names) >= len(found.keys() & names) else found
    return found


def _begin_of_all(names: Iterable[str], tensors: Mapping[str, Tensor]) -> str:
    """Finds what stands before every name of a network in a file of several; '' where nothing does."""
    wanted, first = list(names), next(iter(names))
    begins = (name.removesuffix(first) for name in tensors if name.endswith("." + first))
    return next((begin for begin in begins if all(begin + name in tensors for name in wanted)), "")


def put(place: Path, network: nn.Module, title: str, head: str | None) -> nn.Module:
    """Loads a file's state dict into a network, its head left out where that is named. KitError also for what is no
    finite number there."""
    tensors = _read(place)
    if odd := [name for name, tensor in tensors.items() if not is_plain(tensor)]:
        raise KitError(f"weights {str(place)!r} are not plain numbers: {few(odd)}; allowed: dense tensors of real ones")
    network.load_state_dict(fitting(tensors, network, title, place, head))
    if bad := [name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()]:
        raise KitError(f"weights {str(place)!r} are not finite numbers: {few(bad)}; allowed: finite ones")
    return network


def is_plain(tensor: Tensor) -> bool:
    """Says whether a tensor is dense and of real numbers: not sparse, nested, quantised, complex or without content."""
    special = tensor.is_nested or tensor.is_quantized or tensor.is_meta or tensor.is_complex()
    return tensor.layout is torch.strided and not special


def fitting(
    tensors: Mapping[str, Tensor], network: nn.Module, title: str, place: Path, head: str | None
) -> dict[str, Tensor]:
    """Renames a state dict as a network has it, and puts the network's own head into it where that is named. Raises
    KitError that names what does not fit."""
    own = network.state_dict()
    heads = () if head is None else [f"{head}.{name}" for name in HEAD]
    found = renamed(tensors, own.keys()) | {name: own[name] for name in heads}
    found |= {name: own[name] for name in own if name not in found and name.rpartition(".")[2] == COUNTER}
    other_shape = [name for name in own if name in found and found[name].shape != own[name].shape]
    shapes = [f"{name} {tuple(found[name].shape)} rather than {tuple(own[name].shape)}" for name in other_shape]
    compared = {
        "missing": [name for name in own if name not in found],
        "unexpected": [name for name in found if name not in own],
        "of another shape": shapes,
    }
    if wrong := {what: names for what, names in compared.items() if names}:
        said_of = "; ".join(f"{what}: {few(names)}" for what, names in wrong.items())
        as_many_inputs = all(found[name].shape[1:] == own[name].shape[1:] for name in other_shape)
        of_other_classes = wrong.keys() == {"of another shape"} and len(shapes) <= len(HEAD) and as_many_inputs
        other = "as many classes as there, or for a teacher --teacher-classes, a name an output, or --teacher-head"
        hint = f"; allowed: {other}" if of_other_classes else ""
        if begin := _begin_of_all(own, tensors):
            hint = f"; allowed: a file of those alone that begin with {begin!r}, without it"
        raise KitError(f"weights {str(place)!r} do not fit {title}: {said_of}{hint}")
    return found
