"""A hand-tuned loop with nothing but the arithmetic: what any other loop can at best come near, trick by trick.

It keeps no record, has no stages, checks nothing and evaluates nothing, so it is no way to train. Each trick can be
left out, or one more put in, alone: `python -m benchmarks.throughput --tricks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import default_collate

from benchmarks.rungs import Loop, Pictures, Rung, Task, nesterov
from kit.networks.folding import folded
from kit.runtime.process import keep_freed_memory
from kit.training.captured import recorded


def bare_loop(
    task: Task,
    *,
    channels_last: bool = True,
    batched_augmentation: bool = True,
    no_sync: bool = True,  # else loss and accuracy are read off after every step
    fused_optimiser: bool = True,
    freed_memory_kept: bool = True,
    teacher_folded: bool = True,
    inference_mode: bool = True,  # else no_grad
    logits_known: bool = False,  # the teacher's, beforehand: no forward pass of it
    bfloat16: Literal["nowhere", "teacher", "both"] = "nowhere",
    compiled: bool = False,
    tf32: bool = True,  # convolutions of a GPU; torch's default
    fastest_kernels: bool = False,  # cuDNN's benchmark mode, on a GPU
    captured: bool = False,  # a step is one CUDA graph
) -> Loop:
    """As it stands it is the bare loop; what is off is put in only when asked."""
    if freed_memory_kept:
        keep_freed_memory()
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32, fastest_kernels
    memory = torch.channels_last if channels_last else torch.contiguous_format
    student, teacher = task.networks()
    student = student.train().to(memory_format=memory)
    teacher = (folded(teacher) if teacher_folded else teacher.eval()).requires_grad_(False)
    teacher = teacher.to(memory_format=memory)
    optimiser = nesterov(student, task, fused=fused_optimiser)
    torch.compiler.config.force_disable_caches = compiled  # what compiling takes is part of the answer
    forward = torch.compile(student) if compiled else student
    ask = torch.compile(teacher) if compiled else teacher
    batches = all_at_once(task) if batched_augmentation else one_by_one(task)
    known = torch.randn(task.images, task.classes, generator=torch.Generator().manual_seed(task.seed)).to(task.device)
    of_teacher = torch.inference_mode if inference_mode else torch.no_grad
    half = partial(torch.autocast, task.device, torch.bfloat16)

    def step(x: Tensor, y: Tensor, zt: Tensor | None) -> tuple[Tensor, Tensor]:
        if zt is None:
            with of_teacher(), half(enabled=bfloat16 != "nowhere"):
                zt = ask(x)
            zt = zt.float().clone()  # an ordinary tensor again, which a loss may keep
        with half(enabled=bfloat16 == "both"):
            zs = forward(x)
        zs = zs.float()
        soft = F.cross_entropy(zs / task.T, F.softmax(zt / task.T, 1))
        loss = task.alpha * task.T**2 * soft + (1 - task.alpha) * F.cross_entropy(zs, y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss, zs

    take = replayed(step) if captured else step

    def epoch() -> Iterator[None]:
        order = torch.randperm(task.images)[: task.images // task.batch * task.batch].to(task.device)
        for indices in order.split(task.batch):
            x, y = batches(indices)
            loss, zs = take(x.contiguous(memory_format=memory), y, known[indices] if logits_known else None)
            if not no_sync:
                loss.item(), (zs.argmax(1) == y).sum().item()
            yield

    return Loop(student, epoch)


def replayed(step: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """The step as one CUDA graph, recorded when first asked for; each replay is given the batch in the same memory."""
    recording: list[Any] = []  # the batch's places, the graph, and its answer

    def replay(x: Tensor, y: Tensor, zt: Tensor | None) -> tuple[Tensor, Tensor]:
        if not recording:
            held = torch.empty_like(x).copy_(x), y.clone()
            recording.extend((held, *recorded(step, (*held, zt))))
        (pixels, labels), graph, answer = recording
        pixels.copy_(x)
        labels.copy_(y)
        graph.replay()
        return answer

    return replay


Batches = Callable[[Tensor], tuple[Tensor, Tensor]]  # of indices (b,): images (b, 3, px, px) and labels (b,)


def all_at_once(task: Task) -> Batches:
    """Batches out of one uint8 tensor that is padded once: crop, mirror and gather in one, then one pass to floats."""
    px, margin = task.px, (task.pad, task.pad)
    padded = np.pad(task.data.train.images.pixels.numpy(), ((0, 0), margin, margin, (0, 0)), mode="reflect")
    side = padded.shape[1]
    colours = torch.from_numpy(padded).view(-1, 3).to(task.device)  # a GPU holds all images
    labels = task.data.train.labels.to(task.device)
    mean, std = (stat.to(task.device) for stat in task.data.mean_std)
    mean, scale = mean.repeat(px), (1 / std).repeat(px)  # of a row
    ahead = torch.arange(px, device=task.device)

    def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
        b = len(indices)
        top, left = torch.randint(0, 2 * task.pad + 1, (2, b, 1), device=indices.device)
        mirrored = (torch.randint(0, 2, (b, 1), device=indices.device) * task.flip).bool()
        rows = (indices[:, None] * side + top + ahead) * side  # (b, px)
        columns = left + torch.where(mirrored, px - 1 - ahead, ahead)  # (b, px)
        pixels = colours.index_select(0, (rows[:, :, None] + columns[:, None, :]).flatten())
        x = pixels.view(b, px, 3 * px).float().sub_(mean).mul_(scale)
        return x.view(b, px, px, 3).permute(0, 3, 1, 2), labels[indices]

    return batch


def one_by_one(task: Task) -> Batches:
    """The same by torchvision's transforms, image by image."""
    pictures = Pictures(task)

    def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
        x, y = default_collate([pictures[i] for i in indices.tolist()])
        return x.to(task.device), y.to(task.device)

    return batch


# What is changed, each alone, in the second table, and how it is called there: a trick left out, or one more put in.
LEFT_OUT: dict[str, Rung] = {
    "NCHW memory": partial(bare_loop, channels_last=False),
    "images augmented one by one": partial(bare_loop, batched_augmentation=False),
    "loss and accuracy read every step": partial(bare_loop, no_sync=False),
    "optimiser not fused": partial(bare_loop, fused_optimiser=False),
    "freed memory given back": partial(bare_loop, freed_memory_kept=False),
    "teacher's batch norms not folded": partial(bare_loop, teacher_folded=False),
    "teacher in no_grad alone": partial(bare_loop, inference_mode=False),
}
PUT_IN = {"teacher's logits known": partial(bare_loop, logits_known=True)}
IN_BFLOAT16 = {"both in bfloat16": partial(bare_loop, bfloat16="both")}
BFLOAT16 = {"teacher in bfloat16": partial(bare_loop, bfloat16="teacher")} | IN_BFLOAT16
COMPILED = {"torch.compile of both": partial(bare_loop, compiled=True)}
ON_GPU = {  # of a GPU alone
    "convolutions without TF32": partial(bare_loop, tf32=False),
    "cuDNN's fastest kernels": partial(bare_loop, fastest_kernels=True),
    "a step as one CUDA graph": partial(bare_loop, captured=True),
    "CUDA graph, both in bfloat16": partial(bare_loop, captured=True, bfloat16="both"),
}


def has_bfloat16(device: str) -> bool:
    """Whether this machine multiplies bfloat16 itself; elsewhere it is emulated, and slow."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
