"""Networks by name: the field's for CIFAR, torchvision's, timm's, and anyone's function in a file or a package.

    NamedSpec.of("torchvision:resnet18", classes=10, px=32)
    NamedSpec.of("my_nets.py:tiny", classes=10, px=32, arguments={"depth": 16})

The function is called with `num_classes` and the arguments; it returns an nn.Module from images (N, 3, H, W) to logits
(N, C). It is built and tried where its run is described, in seconds, so that what cannot be trained is refused before
anything is. Loading code is running it.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
import torchvision
from pydantic import Field, JsonValue, TypeAdapter
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kit.errors import Described, KitError, few, not_one_of, said
from kit.files import cache_folder, write_atomically
from kit.models import MODELS, ModelSpec
from kit.networks.cifar import NETWORKS
from kit.networks.folding import folded
from kit.networks.layered import LayeredSpec
from kit.networks.view import View, Viewing
from kit.runtime.environment import absolute
from kit.runtime.seeds import seeded

FORMS = ("torchvision:NAME", "timm:NAME", "FILE.py:FUNCTION", "MODULE:FUNCTION", "cifar:NAME")
LIBRARIES = ("cifar", "torchvision", "timm")
PRETRAINED = {"weights", "pretrained", "checkpoint_path"}  # of torchvision's and timm's functions: what loads weights
TOLERANCE = 1e-4  # between logits that should be the same, as a share of the largest
OTHERS = tuple(str(Path(place).parents[1]) for place in (torch.__file__, __file__))  # folders of nobody's own code
TIMM = "pip install timm"


class NamedSpec(Described):
    """Describes a network by the function that builds it: like `ModelSpec`, it has all that `build` needs.

    `code` is the sha256 of the file that the function stands in, `shapes` a hash of parameters' and buffers' names and
    shapes: where either is another one, the network is not built. What that file imports is the user's to keep.
    """

    name: str = Field(pattern=r".:[^:]+$")
    classes: int = Field(ge=2)
    arguments: dict[str, JsonValue] = Field(default={}, exclude_if=lambda arguments: not arguments)
    code: str | None = Field(default=None, exclude_if=lambda code: code is None)
    shapes: str
    # batch norms stay where they are, as the network with them folded gives other logits
    folding: Literal["refused"] | None = Field(default=None, exclude_if=lambda folding: folding is None)
    view: View | None = Field(default=None, exclude_if=lambda view: view is None)
    path: str | None = Field(default=None, exclude=True)  # where the file lies on this machine: not its identity

    @classmethod
    def of(
        cls, name: str, classes: int, px: int, arguments: Mapping[str, Any] | None = None, view: View | None = None
    ) -> NamedSpec:
        """Describes a network for so many classes, once it has been tried on images of px × px. KitError."""
        given, (code, path) = as_json(arguments or {}), located(name)
        draft = {"name": name, "classes": classes, "arguments": json.loads(given), "code": code, "view": view}
        return _tried(cls.model_construct(shapes="", path=path, **draft), given, px)

    @property
    def title(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        seen = f" at {self.view.px} px" if self.view is not None and self.view.px else ""
        seen += f" of {self.outputs} classes" if self.outputs != self.classes else ""
        return f"{self.name}({given}){seen}" if given else self.name + seen

    @property
    def outputs(self) -> int:
        """How many logits its function gives; those of other classes than the data's are left out."""
        return self.classes if self.view is None or self.view.outputs is None else self.view.outputs.count

    @property
    def file(self) -> str | None:
        """The file that its function stands in; None of a module's or a library's."""
        place, _ = parts(self.name)
        return self.path or (place if place.endswith(".py") else None)

    def build(self, seed: int | None = None) -> nn.Module:
        """Builds the network with fresh weights; the same seed gives the same weights and leaves torch's own stream
        alone. Raises KitError where the code is another one, or raises, or gives other parameters."""
        with seeded(seed), _importing(self.file):
            network = _built(self)
        found = shapes_of(self.name, network)
        if found != self.shapes:
            raise KitError(
                f"network {self.name!r} is built with other parameters here ({found}) than where its run was described "
                f"({self.shapes}); allowed: the same versions of what its code imports"
            )
        if self.view is not None:
            network = Viewing(network, self.view)
        if self.folding is not None:
            network.kit_folds = False  # type: ignore[assignment]
        return network

    def __hash__(self) -> int:
        return hash((self.name, self.classes, self.code, self.shapes))


Network = ModelSpec | LayeredSpec | NamedSpec
_networks: TypeAdapter[Network] = TypeAdapter(Network)


def as_json(arguments: Mapping[str, Any]) -> str:
    """Writes down a function's arguments as a run keeps them. Raises KitError for what JSON does not hold."""
    try:
        return json.dumps(dict(arguments), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise KitError(
            f"a network's arguments are not allowed ({error}); allowed: numbers, words, true, false, null, and lists "
            f"and dictionaries of them"
        ) from None


def described(fields: Mapping[str, Any]) -> Network:
    """The network that a run's JSON describes. Raises ValidationError where it is none."""
    return _networks.validate_python(dict(fields))


def check_name(name: str) -> str:
    """Returns a network's name. Raises KitError where it is neither one of the five nor of a form that names others."""
    if isinstance(name, str) and (name in MODELS or all(parts(name))):
        return name
    raise not_one_of("model", name, (*MODELS, *FORMS))


def parts(name: str) -> tuple[str, str]:
    """Splits a name into where its function comes from and what it is called there; empty where it has no colon."""
    first, _, rest = name.partition(":")
    place, _, function = name.rpartition(":")
    return (first, rest) if first in LIBRARIES else (place, function)


# ---- where a function comes from ----------------------------------------------------------------------------------


def located(name: str) -> tuple[str | None, str | None]:
    """Finds the code of a name: (sha256, path) of its file, both None for the kit's own and libraries'. KitError."""
    place, function = parts(name)
    if place in LIBRARIES:
        _of_library(place, function)
        return None, None
    if place.endswith(".py"):
        path = absolute(place)
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest(), str(path)
        except OSError as error:
            raise KitError(
                f"network {name!r}: file {place} cannot be read ({error.strerror}); allowed: {FORMS[2]}"
            ) from None
    file = _module_file(name, place)
    return (None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()), None


def _module_file(name: str, module: str) -> Path | None:
    with foreign(name, "while its module was looked for"):
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            spec = None
    if spec is None:
        raise KitError(
            f"network {name!r}: module {module!r} is not found; allowed: one on PYTHONPATH or in this folder, or "
            f"{', '.join(FORMS[:3])}"
        )
    return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None


def _of_library(place: str, name: str) -> Callable[..., nn.Module]:
    """Finds the function of a library's network, without weights. Raises KitError for a name that it has not."""
    named: Callable[[str], Callable[..., nn.Module]]
    if place == "cifar":
        known, named = list(NETWORKS), NETWORKS.__getitem__
    elif place == "torchvision":
        models = torchvision.models
        known, named = models.list_models(module=models), lambda name: partial(models.get_model, name, weights=None)
    else:
        try:
            import timm
        except ImportError:
            raise KitError(f"network 'timm:{name}' needs timm, which is not installed; allowed: after {TIMM}") from None
        known, named = timm.list_models(), lambda name: partial(timm.create_model, name, pretrained=False)
    if name not in known:
        raise KitError(f"network '{place}:{name}' is not known; {_nearest(name, known)}")
    return named(name)


def _nearest(name: str, known: Sequence[str]) -> str:
    """Says which known names are spelt like this one; where none is, which there are."""
    near = get_close_matches(name, known, 4, 0.5)
    return f"nearest: {', '.join(near)}" if near else f"allowed: {few(known, 8) or 'none is there'}"


@contextmanager
def foreign(name: str, when: str) -> Iterator[None]:
    """Runs foreign code: what it prints goes to stderr, what it sets as torch's default type is undone, and what it
    raises becomes a KitError that says where."""
    dtype = torch.get_default_dtype()
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except KitError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = ([frame for frame in frames if not frame.filename.startswith(OTHERS)] or frames)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        raise KitError(f"network {name!r} raised {said(error)} ({where}) {when}") from error
    finally:
        torch.set_default_dtype(dtype)


_imported: dict[str, str | None] = {}  # by module, the code that it had when a network was last made of it


def _function(spec: NamedSpec) -> Callable[..., nn.Module]:
    """Imports a network's function. Raises KitError where it is not there, or its code is not the one described."""
    place, function = parts(spec.name)
    if place in LIBRARIES:
        return _of_library(place, function)
    if spec.file is not None:
        module = _module_of(spec.name, _source(spec, spec.file), spec.file)
    else:
        code, _ = located(spec.name)
        if code != spec.code:
            raise _other_code(spec.name)
        with foreign(spec.name, "while it was imported"):
            module = importlib.import_module(place)
            if _imported.get(place, code) != code:  # edited since
                module = importlib.reload(module)
        _imported[place] = code
    called = getattr(module, function, None)
    if not callable(called):
        known = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        raise KitError(
            f"network {spec.name!r}: {Path(place).name} has no function {function!r}; {_nearest(function, known)}"
        )
    return called


def _source(spec: NamedSpec, file: str) -> bytes:
    """Reads the code that was described: where it lies, or where that has changed, what the cache has kept of it."""
    for place in (Path(file), _kept(spec.code)):
        with suppress(OSError):
            content = place.read_bytes()
            if hashlib.sha256(content).hexdigest() == spec.code:
                return content
    raise _other_code(spec.name)


def _kept(code: str | None) -> Path:
    return cache_folder() / "code" / f"{code}.py"


def _other_code(name: str) -> KitError:
    return KitError(
        f"network {name!r}: its code is not here, or not the one that its run was described with; allowed: that file, "
        f"unaltered, where this process sees it"
    )


def _module_of(name: str, content: bytes, path: str) -> Any:
    """Executes the code that was hashed, once, as a module of its own."""
    own = f"kit_own_{hashlib.sha256(path.encode() + content).hexdigest()[:16]}"
    if own in sys.modules:
        return sys.modules[own]
    module = ModuleType(own)
    module.__file__ = path
    sys.modules[own] = module  # which dataclasses look up
    try:
        with foreign(name, "while it was read"):
            exec(compile(content, path, "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[own]
        raise
    return module


_IMPORTING = threading.RLock()
_beside: dict[str, dict[str, ModuleType]] = {}  # by folder, what networks' code has imported from there


@contextmanager
def _importing(file: str | None) -> Iterator[None]:
    """Lets a file's code import what lies beside it, and not what lies by the same name beside another's."""
    if file is None:
        yield
        return
    folder = str(absolute(file).parent)
    with _IMPORTING:
        own = _beside.setdefault(folder, {})
        others = {name: module for each in _beside.values() if each is not own for name, module in each.items()}
        for name in others:
            sys.modules.pop(name, None)
        sys.modules.update(own)
        before = set(sys.modules)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
            if folder not in sys.path:
                sys.path.append(folder)  # for what is imported when the network is used
            new = [name for name in sys.modules.keys() - before if _lies_in(folder, name.partition(".")[0])]
            own.update({name: sys.modules[name] for name in new})
            sys.modules.update({name: module for name, module in others.items() if name not in sys.modules})


def _lies_in(folder: str, package: str) -> bool:
    spec = getattr(sys.modules.get(package), "__spec__", None)
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
    return any(place is not None and str(Path(place).parent) == folder for place in places)


def _built(spec: NamedSpec) -> nn.Module:
    """Calls a network's function. Raises KitError for arguments that it does not take, and where it gives no module."""
    name = spec.name
    with torch.random.fork_rng(devices=[]):  # what is drawn while its code is read must not move the network's own
        function = _function(spec)
    reserved = {"num_classes"} | (PRETRAINED if parts(name)[0] in LIBRARIES else set())
    if taken := sorted(reserved & set(spec.arguments)):
        raise KitError(f"network {name!r}: argument {taken[0]!r} is the kit's own; allowed: others of its function")
    given = {"num_classes": spec.outputs, **spec.arguments}
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of compiled functions
        signature = inspect.Signature([inspect.Parameter("given", inspect.Parameter.VAR_KEYWORD)])
    try:
        signature.bind(**given)
    except TypeError as error:
        takes, allowed = signature.parameters.values(), ", ".join(signature.parameters) or "none"
        if not any(each.name == "num_classes" or each.kind is each.VAR_KEYWORD for each in takes):
            wrapped = f"def own(num_classes): return {parts(name)[1]}(…=num_classes)"
            allowed = f"a function that takes num_classes, such as one around it ({allowed}): {wrapped}"
        raise KitError(
            f"network {name!r} is called with num_classes and arguments: {error}; allowed: {allowed}"
        ) from None
    with foreign(name, "while it was built with " + ", ".join(f"{n}={v!r}" for n, v in given.items())):
        network = function(**given)
    if not isinstance(network, nn.Module):
        raise KitError(f"network {name!r} gives a {type(network).__name__}; allowed: an nn.Module")
    return network


def shapes_of(name: str, network: nn.Module) -> str:
    """Computes a hash of the names and shapes of a network's parameters and buffers."""
    lines = []
    for key, tensor in network.state_dict().items():
        if not isinstance(tensor, Tensor) or is_lazy(tensor):
            what = "has no shape before the first images" if isinstance(tensor, Tensor) else "is no tensor"
            raise KitError(f"network {name!r}: {key!r} of its state {what}; allowed: tensors of known shapes")
        lines.append(f"{key} {tuple(tensor.shape)}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


# ---- trying a network once ----------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _tried(draft: NamedSpec, arguments: str, px: int) -> NamedSpec:
    """Completes a draft that has no shapes yet. `arguments` are its own as text, in which 1, 1.0 and true differ."""
    name, view = draft.name, draft.view
    with torch.random.fork_rng(devices=[]), _importing(draft.file):
        networks = []
        for _ in range(2):
            torch.manual_seed(0)
            networks.append(_built(draft))
        shapes, second = (shapes_of(name, network) for network in networks)
        starts = zip(*(network.state_dict().values() for network in networks), strict=False)
        if shapes != second or not all(torch.equal(a, b) for a, b in starts):
            raise KitError(
                f"network {name!r} begins with other weights each time it is built from the same seed; allowed: "
                f"weights drawn from torch's own random stream, which the kit seeds"
            )
        first, other = ({id(parameter) for parameter in network.parameters()} for network in networks)
        if first & other:
            raise KitError(f"network {name!r} has the same parameters in each build; allowed: made in the function")
        network = networks[0] if view is None else Viewing(networks[0], view)
        check(name, network, draft.classes, px)
        if shapes_of(name, networks[0]) != shapes:
            raise KitError(f"network {name!r} has other parameters or buffers after a pass; allowed: all made at first")
        with torch.no_grad():  # so that maps which a network keeps have no graph, and can be copied
            folds = same(network(images(px)), folded(network)(images(px)))
    short = name
    if draft.path is not None:
        short = f"{Path(draft.path).name}:{parts(name)[1]}"
        with suppress(OSError):  # for the day when the file is another one; without it only that day's use is refused
            _kept(draft.code).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(_kept(draft.code), Path(draft.path).read_bytes())
    return NamedSpec(**vars(draft) | {"name": short, "shapes": shapes, "folding": None if folds else "refused"})


def images(px: int, first: int = 0) -> Tensor:
    """Two made-up images (2, 3, px, px), stored as a training's are: the first always the same, the second its own."""
    drawn = [torch.randn(3, px, px, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1 + first)]
    return torch.stack(drawn).contiguous(memory_format=torch.channels_last)


def same(a: Tensor, b: Tensor) -> bool:
    """Whether logits (N, C) are the same to rounding."""
    return bool((a - b).abs().max() <= TOLERANCE * a.abs().max().clamp_min(1e-3))


def check(name: str, network: nn.Module, classes: int, px: int) -> None:
    """Raises KitError where a network cannot be trained or taught from as the kit's five are; leaves it in evaluation
    mode, its batch norms moved by a batch."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not learning or any(map(torch.is_complex, learning)):
        what = "complex parameters" if learning else "no parameter that can be trained"
        raise KitError(f"network {name!r} has {what}; allowed: real ones, one at least that can be trained")
    with foreign(name, "while it was copied"):
        copy.deepcopy(network)
    network.to(memory_format=torch.channels_last)
    trained = _logits(name, network.train(), images(px), classes, "in training mode")
    if not trained.requires_grad:
        raise KitError(f"network {name!r} gives logits without a gradient; allowed: logits that its parameters give")
    with foreign(name, f"in the backward pass of images (2, 3, {px}, {px})"):
        trained.sum().backward()
    network.zero_grad()
    with torch.no_grad():
        network.eval()
        first, other = (_logits(name, network, images(px, n), classes, "in evaluation mode") for n in (0, 1))
        alone = _logits(name, network, images(px)[:1], classes, "in evaluation mode, of one image")
    if not (same(first[:1], other[:1]) and same(first[:1], alone)):
        raise KitError(
            f"network {name!r}: in evaluation mode the logits of an image change with the other images of its batch, "
            f"or by chance; allowed: logits of each image alone"
        )


def _logits(name: str, network: nn.Module, x: Tensor, classes: int, mode: str) -> Tensor:
    shape, given = tuple(x.shape), x.clone()
    with foreign(name, f"{mode} on images {shape}, which are larger with --px"):
        z = network(x)
    if not torch.equal(x, given):
        raise KitError(f"network {name!r} changes its images {mode}, which others see; allowed: x = x - 1, not x -= 1")
    if not isinstance(z, Tensor):
        more = '; with arguments {"aux_logits": false} it may have one' if isinstance(z, tuple) else ""
        raise KitError(
            f"network {name!r} gives a {type(z).__name__} {mode}; allowed: one tensor of logits (N, C){more}"
        )
    if z.shape != (len(x), classes):
        raise KitError(
            f"network {name!r} gives {tuple(z.shape)} {mode} for images {shape}; allowed: logits ({len(x)}, {classes})"
        )
    if not z.is_floating_point() or not z.isfinite().all():
        what = "that are not finite numbers" if z.is_floating_point() else f"of type {z.dtype}"
        raise KitError(f"network {name!r} gives logits {what} {mode}; allowed: finite floating-point numbers")
    return z
