"""Grad-CAM and its relatives for any network with maps (N, C, h, w): what in an image speaks for a class.

    found = maps(network, x, labels)                    # Grad-CAM at the default layer, for each image's own class
    found.maps                                          # (N, H, W) in 0 … 1, as large as the images

The maps are pytorch-grad-cam's: the layer's channels weighted and summed, negative parts cut off, then each map shifted
and scaled so that its least pixel is 0 and its largest 1, and enlarged bilinearly. A map that is the same everywhere
says nothing; it is all 0 (`kit.cam.scores.empty`).

Which layer is a *reading*. Grad-CAM's authors take the last convolution. On 32 px images a VGG's last one has 2×2
cells, and no map of 2×2 cells can tell a hull from the sea. The default is therefore the deepest convolution that still
has 4×4 cells, taken after its norm and ReLU, a residual block counting as one convolution (so in a ResNet the end of
a stage). At 224 px that is the last one, as the authors have it. Any other layer can be named.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torchvision.models.resnet import BasicBlock, Bottleneck

from kit.errors import KitError, few, not_one_of, said
from kit.networks import cifar

BLOCKS = BasicBlock, Bottleneck, *cifar.BLOCKS  # each counts as one convolution
METHODS: Mapping[str, type[BaseCAM]] = {
    "grad-cam": GradCAM,
    "grad-cam++": GradCAMPlusPlus,
    "score-cam": ScoreCAM,
    "layer-cam": LayerCAM,
}
CELLS = 4  # the default layer's map has at least so many rows and columns
BATCH = 128
NAMED = 8  # of the layers that may be chosen, in a message

Cells = tuple[int, int]  # a map's rows and columns, before it is enlarged


@dataclass(frozen=True)
class HeatMaps:
    """Heat maps of N images, and what they are maps of."""

    maps: np.ndarray  # (N, H, W) float32, 0 … 1
    classes: Tensor  # (N,) int64: the class that each map is for
    logits: Tensor  # (N, C)
    method: str
    layer: str
    cells: Cells  # of the layer: what the maps were enlarged from

    @property
    def predicted(self) -> Tensor:
        """(N,) int64: the class with the highest logit."""
        return self.logits.argmax(1)


def maps(
    network: nn.Module,
    x: Tensor,
    classes: Tensor | int | str = "predicted",
    method: str = "grad-cam",
    layer: str | None = None,
    batch: int = BATCH,
) -> HeatMaps:
    """Computes heat maps of images x (N, 3, H, W), normalised as the network wants them, `batch` at a time.

    classes: labels (N,), one class for all, or `predicted`. layer: a module's name; None is the default reading. The
    network is left as it is: maps are made on a copy in evaluation mode, of half-precision networks in float32. The
    same input gives the same maps, in inference mode and under autocast, too.
    Raises KitError for a method or layer that is not known, a class out of range, a network without a convolution where
    no layer is named, or one that cannot be hooked into, and logits that are no numbers.
    """
    if method not in METHODS:
        raise not_one_of("method", method, METHODS)
    hookable(network)
    if not isinstance(x, Tensor | np.ndarray):
        raise KitError(f"images of type {type(x).__name__} are not allowed; allowed: a tensor or an array (N, 3, H, W)")
    if x.ndim != 4 or not len(x):
        raise KitError(f"images of shape {tuple(x.shape)} are not allowed; allowed: (N, 3, H, W) with N from 1 up")
    if type(batch) is not int or batch < 1:
        raise KitError(f"batch {batch!r} is not allowed; allowed: a whole number from 1 up")
    device = next(network.parameters()).device.type
    with torch.inference_mode(False), torch.autocast(device, enabled=False):
        x = torch.as_tensor(x)
        x = x.clone() if x.is_inference() else x.detach()
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return _maps(copied(network), x, classes, method, layer, batch)


def hookable(network: nn.Module) -> None:
    """Raises KitError for what has no layers to hook into, or none with a gradient."""
    if not isinstance(network, nn.Module):
        raise KitError(f"a network of type {type(network).__name__} is not allowed; allowed: an nn.Module")
    for module in network.modules():
        kind = "scripted" if isinstance(module, torch.jit.ScriptModule) else ""
        kind = "quantised" if type(module).__module__.startswith("torch.ao.nn.") else kind
        if kind:
            raise KitError(f"{type(network).__name__} is {kind}; allowed: the network that it was made of")
    parameters = list(network.parameters())
    if not parameters or any(map(is_lazy, parameters)):
        what = "parameters without a shape before the first images" if parameters else "no parameters"
        raise KitError(f"{type(network).__name__} has {what}; allowed: parameters of known shapes")


def copied(network: nn.Module) -> nn.Module:
    """Copies a network to be hooked into: frozen, in evaluation mode, single precision. What cannot be copied both
    share."""
    try:
        own = copy.deepcopy(network)
    except (RuntimeError, TypeError):  # "Only Tensors created explicitly by the user support the deepcopy protocol"
        own = copy.deepcopy(network, uncopied(network))
    halves = {torch.float16, torch.bfloat16} & {each.dtype for each in own.parameters()}
    return (own.float() if halves else own).eval().requires_grad_(False)


def uncopied(network: nn.Module) -> dict[int, object]:
    """Finds what of a network cannot be copied, by its id: a weight that is computed before each pass, as by
    torch.nn.utils' weight norm, spectral norm or pruning, an activation that is kept, a lock."""
    found = {}
    for module in network.modules():
        for value in vars(module).values():
            for each in value.values() if isinstance(value, dict) else [value]:
                if not isinstance(each, nn.Module):
                    try:
                        copy.deepcopy(each)
                    except (RuntimeError, TypeError):
                        found[id(each)] = each
    return found


def _maps(
    network: nn.Module, x: Tensor, classes: Tensor | int | str, method: str, layer: str | None, batch: int
) -> HeatMaps:
    """The maps of a network that may be hooked into."""
    sizes = feature_maps(network, x)
    if layer is None:
        layer = default_layer(network, x, sizes)
    elif layer not in sizes:
        raise KitError(f"layer {layer!r} is not known; allowed: {deepest_first(network, sizes)}")
    wanted = _as_labels(classes, len(x))

    target = network.get_submodule(layer)
    target.register_forward_hook(_begin_graph)
    cam = METHODS[method](network, [target])
    cam.batch_size = batch  # of Score-CAM's masked images
    target.register_forward_hook(_protect)  # after the package's own hooks
    with torch.enable_grad():
        first = network(x[:1].to(next(network.parameters()).device))
    if not first.requires_grad:
        raise KitError(f"layer {layer!r} has no part in the logits; allowed: one that has")
    for c in [] if wanted is None else wanted.tolist():
        if not 0 <= c < first.shape[1]:
            raise KitError(f"class {c} is out of range; allowed: 0 to {first.shape[1] - 1}, as the network has them")
    maps, answers = [], []
    for start in range(0, len(x), batch):
        here = slice(start, start + batch)
        targets = None if wanted is None else [ClassifierOutputTarget(int(c)) for c in wanted[here]]
        # Score-CAM draws a bar for every image; with other methods stderr stays as it is, as other threads write there
        quiet = contextlib.redirect_stderr(io.StringIO()) if method == "score-cam" else contextlib.nullcontext()
        with torch.enable_grad(), quiet:
            maps.append(cam(x[here], targets))
        answers.append(cam.outputs.detach().cpu())
    logits = torch.cat(answers)
    if not logits.isfinite().all():
        raise KitError(f"{type(network).__name__} gives logits that are not finite numbers; allowed: finite ones")
    labels = logits.argmax(1) if wanted is None else wanted
    return HeatMaps(np.concatenate(maps), labels, logits, method, layer, sizes[layer])


def _as_labels(classes: Tensor | int | str, n: int) -> Tensor | None:
    """Converts classes to labels, int64 (n,), or None for `predicted`."""
    if isinstance(classes, str):
        if classes != "predicted":
            raise not_one_of("classes", classes, ("predicted", "a class's number", "labels (N,)"))
        return None
    try:
        labels = torch.as_tensor(classes).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise KitError(f"classes {classes!r} are not allowed; allowed: predicted, a whole number, or ({n},)") from None
    labels = labels.expand(n) if labels.ndim == 0 else labels
    if labels.shape != (n,) or labels.is_floating_point():
        raise KitError(f"classes of shape {tuple(labels.shape)} are not allowed; allowed: whole numbers ({n},)")
    return labels.long()


def _begin_graph(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """Cuts the graph before the layer: its gradient needs nothing below it, and a frozen network gets one at all."""
    return output.detach().requires_grad_()


def _protect(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """Hands on a copy: an in-place ReLU after the layer changes neither the kept activation nor its gradient."""
    return output.clone()


# ---- layers ---------------------------------------------------------------------------------------------------------


def convolutions(network: nn.Module) -> list[str]:
    """Lists the names of the network's convolutions, in the order in which they are defined. Raises KitError where it
    has none."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    if not names:
        raise KitError(f"{type(network).__name__} has no convolution; allowed: a network with at least one nn.Conv2d")
    return names


def feature_maps(network: nn.Module, x: Tensor) -> dict[str, Cells]:
    """Finds every module that gives one map (N, C, h, w) in a pass over images x (N, 3, H, W), in the order they
    finish.

    A module that runs more than once in a pass, such as the one ReLU of a ResNet's block, is none. KitError where the
    network has no such module or does not take such images.
    """
    calls: dict[str, list[Cells | None]] = {}

    def note(name: str, module: nn.Module, inputs: object, output: object) -> None:
        cells = (output.shape[2], output.shape[3]) if isinstance(output, Tensor) and output.ndim == 4 else None
        calls.setdefault(name, []).append(cells)

    handles = [
        module.register_forward_hook(partial(note, name)) for name, module in network.named_modules() if name != ""
    ]
    try:
        with torch.no_grad(), evaluating(network):
            logits = network(x[:1].to(next(network.parameters()).device))
    except Exception as error:  # of a network of anyone's: an assertion on its input's size, say
        shape = tuple(x.shape[1:])
        raise KitError(f"{type(network).__name__} does not take images of shape {shape} ({said(error)})") from None
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise KitError(f"{type(network).__name__} does not give logits; allowed: a network from images to (N, C)")
    found = {name: sizes[0] for name, sizes in calls.items() if len(sizes) == 1 and sizes[0] is not None}
    if not found:
        convolutions(network)
        raise KitError(
            f"{type(network).__name__} runs every convolution more than once, and no layer gives one map (N, C, h, w); "
            f"allowed: a network in which one does"
        )
    return found


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Puts the network into evaluation mode; afterwards each of its modules is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def default_layer(network: nn.Module, x: Tensor, sizes: Mapping[str, Cells] | None = None) -> str:
    """Chooses the deepest convolution with at least CELLS × CELLS cells, after its norm and ReLU (see the module's
    text).

    Where no map is that large, the deepest of the largest. `sizes` are `feature_maps(network, x)`, if at hand.
    """
    sizes = feature_maps(network, x) if sizes is None else sizes
    blocks = [name for name, module in network.named_modules() if isinstance(module, BLOCKS)]
    outside = [name for name in sizes if not any(name.startswith(f"{block}.") for block in blocks)]
    deep = [name for name in outside if name in blocks or isinstance(network.get_submodule(name), nn.Conv2d)]
    if not deep:
        raise KitError(
            f"{type(network).__name__} has no convolution that runs once in a pass; allowed: a layer by name, "
            f"{deepest_first(network, sizes)}"
        )
    least = min(CELLS, max(min(sizes[name]) for name in deep))
    deepest = [name for name in deep if min(sizes[name]) >= least][-1]
    following = outside[outside.index(deepest) :]
    after = [name for name in following if sizes[name] == sizes[deepest]]
    return after[-1]


def nameable(network: nn.Module, sizes: Mapping[str, Cells]) -> list[str]:
    """Lists those of the layers that are worth offering: convolutions, residual blocks and stages; else all."""
    worth = [name for name in sizes if any(isinstance(m, nn.Conv2d) for m in network.get_submodule(name).modules())]
    return worth or list(sizes)


def deepest_first(network: nn.Module, sizes: Mapping[str, Cells]) -> str:
    """Names the deepest few of the layers that are worth offering, and counts the others."""
    return few(nameable(network, sizes)[::-1], NAMED)
