"""The closed forms as tensors, checked against autograd: curves, limits on a grid, how a step shrinks with t, and what
lies past Section 1.1: (D10) of several teachers and (D11) of t²·KL."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import sympy as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from kit.derivation.symbolic import LOSSES, of_loss, symbolic_closed_form, symbolic_derivative, symbols
from kit.errors import KitError, one_of
from kit.losses import hard_cross_entropy, kl_divergence, soft_cross_entropy, softened, temperature_gradient

K = 20.0  # the paper's upper end of t (Section 1.2)
STUDENTS = ("student = teacher", "half-trained", "untrained")
SIZES = {"smoke": 32, "quick": 256, "paper": 1024}  # random images per preset


@dataclass(frozen=True)
class Cases:
    """N random images: logits `zt`, `zs` of shape (N, C) in float64 and labels `y` of shape (N,)."""

    zt: Tensor
    zs: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if self.zt.ndim != 2 or self.zt.shape != self.zs.shape or self.y.shape != self.zt.shape[:1]:
            shapes = f"zt {tuple(self.zt.shape)}, zs {tuple(self.zs.shape)}, y {tuple(self.y.shape)}"
            raise KitError(f"cases: shapes {shapes} are not allowed; allowed: zt and zs (N, C), y (N,)")
        check_size(*self.zt.shape)
        low, high, last = self.y.min().item(), self.y.max().item(), self.zt.shape[1] - 1
        if self.y.is_floating_point() or low < 0 or high > last:
            raise KitError(f"cases: labels {low} to {high} are not allowed; allowed: whole numbers from 0 to {last}")
        for name, z in (("zt", self.zt), ("zs", self.zs)):
            if z.dtype != torch.float64:
                raise KitError(f"cases: {name} in {z.dtype} is not allowed; allowed: torch.float64")
            if not z.isfinite().all():
                raise KitError(f"cases: {name} holds what is no finite number; allowed: finite logits")


def check_size(images: int, classes: int) -> None:
    """Raises KitError for no images, and for classes that leave nothing to tell apart."""
    if images < 1 or classes < 2:
        raise KitError(f"cases: {images} images of {classes} classes are not allowed; allowed: 1 or more of 2 or more")


def temperatures(ts: float | Sequence[float] | Tensor) -> Tensor:
    """One or several temperatures in float64, of their own shape. Raises KitError for none, and for what is none."""
    t = torch.as_tensor(ts, dtype=torch.float64)
    if not (t.numel() and (t > 0).all() and t.isfinite().all()):
        raise KitError(f"temperatures: {t.tolist()!r} is not allowed; allowed: 1 or more, finite and above 0")
    return t


def size_of(preset: str) -> int:
    """How many random images a preset uses: a preset changes sizes, never code paths."""
    return SIZES[one_of("preset", preset, SIZES)]


def sample_cases(n: int = 256, classes: int = 10, seed: int = 0, student: str = "half-trained") -> Cases:
    """Logits that look like a classifier's: the teacher adds 6 to its label's logit, over noise of deviation 1.5.

    `student` is one of `STUDENTS`. Untrained: noise of deviation 0.5 that knows nothing of the teacher; half-trained:
    half the teacher's logits plus unit noise.
    """
    one_of("student", student, STUDENTS)
    check_size(n, classes)
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    zt = 1.5 * torch.randn(n, classes, generator=g, dtype=torch.float64) + 6 * F.one_hot(y, classes)  # (N, C)
    noise = torch.randn(n, classes, generator=g, dtype=torch.float64)
    zs = {"student = teacher": zt.clone(), "half-trained": 0.5 * zt + noise, "untrained": 0.5 * noise}[student]
    return Cases(zt, zs, y)


class Slopes(NamedTuple):
    """Derivatives by t for each image, of shape (N,) or (T, N)."""

    ce: Tensor
    kl: Tensor
    hard: Tensor
    spread: Tensor  # the Cov_p(zt, zs) / t³ in `ce`; the rest of `ce` is the mismatch term

    def of(self, loss: str) -> Tensor:
        """The derivative of `CE`, `KL` or `hard`."""
        return of_loss(loss, {"CE": self.ce, "KL": self.kl, "hard": self.hard})


def slopes(cases: Cases, t: float | Tensor) -> Slopes:
    """(D3), (D5) and (D6) image by image. A `t` of shape (T,) gives results of shape (T, N)."""
    t = temperatures(t)
    zt, zs, y = cases.zt, cases.zs, cases.y
    p, q = softened(zt, t[..., None, None]), softened(zs, t[..., None, None])  # (…, N, C)
    t = t[..., None]  # (…, 1) against (N,)
    e_p_zs, e_q_zs = (p * zs).sum(-1), (q * zs).sum(-1)
    centred = zt - (p * zt).sum(-1, keepdim=True)
    spread = (p * centred * zs).sum(-1) / t**3  # Cov_p(zt, zs) / t³
    ce = (e_p_zs - e_q_zs) / t**2 + spread  # (D3)
    kl = ce - (p * centred**2).sum(-1) / t**3  # (D5) = (D3) − (D4)
    hard = (zs.gather(-1, y[:, None])[:, 0] - e_q_zs) / t**2  # (D6)
    return Slopes(ce, kl, hard, spread)


def loss_of(loss: str, cases: Cases, t: float | Tensor) -> Tensor:
    """`CE`, `KL` or `hard` from `kit.losses`, a batch mean in nats."""
    t = temperatures(t)
    losses = {
        "CE": lambda: soft_cross_entropy(cases.zt, cases.zs, t),
        "KL": lambda: kl_divergence(cases.zt, cases.zs, t),
        "hard": lambda: hard_cross_entropy(cases.zs, cases.y, t),
    }
    return of_loss(loss, losses)()


def autograd_slopes(loss: str, cases: Cases, t: float) -> Tensor:
    """∂loss/∂t of every image by autograd, shape (N,): each image has a temperature of its own."""
    n = len(cases.y)
    one_each = torch.full((n, 1), temperatures(t).item(), dtype=torch.float64)
    return _by_autograd(lambda leaf: loss_of(loss, cases, leaf) * n, one_each)[:, 0]


def _by_autograd(loss: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """∂loss/∂t by autograd, of t's shape."""
    leaf = t.requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def autograd_check(
    n: int = 256, seed: int = 0, ts: Sequence[float] = (0.5, 1.0, 2.0, 5.0, 20.0, 100.0)
) -> pd.DataFrame:
    """The largest absolute difference to autograd over n random images of each kind of student and all `ts`, float64.

    One row per loss and source: sympy's own derivative and closed form (three classes, evaluated with its lambdify),
    the tensor form `slopes` and, for CE, `kit.losses.temperature_gradient` (ten classes), which is a batch's mean: one
    check a batch, not one an image.
    """
    three, ts = symbols(3), temperatures(ts).tolist()
    errors = defaultdict(list)  # by loss and source
    for loss in LOSSES:
        forms = {"derivative": symbolic_derivative(loss), "closed form": symbolic_closed_form(loss)}
        forms = {what: sp.lambdify((*three.zt, *three.zs, three.t), form, "numpy") for what, form in forms.items()}
        for student, t in itertools.product(STUDENTS, ts):
            small, large = sample_cases(n, 3, seed, student), sample_cases(n, 10, seed, student)
            small = Cases(small.zt, small.zs, torch.zeros_like(small.y))  # the symbolic hard label is the first class
            right_small, right = autograd_slopes(loss, small, t), autograd_slopes(loss, large, t)
            for what, form in forms.items():
                got = torch.as_tensor(form(*small.zt.T.numpy(), *small.zs.T.numpy(), t))
                errors[loss, f"sympy's {what}, C = 3"].append(got - right_small)
            errors[loss, "slopes, C = 10"].append(slopes(large, t).of(loss) - right)
            if loss == "CE":
                closed = temperature_gradient(large.zt, large.zs, t).total
                errors[loss, "kit.losses.temperature_gradient, C = 10"].append((closed - right.mean())[None])
    rows = []
    for source, parts in errors.items():
        found = torch.cat(parts)
        rows.append((*source, found.abs().max().item(), len(found)))
    return pd.DataFrame(rows, columns=["loss", "source", "max absolute error", "checks"])


def log_grid(low: float, high: float, points: int) -> Tensor:
    """Temperatures evenly spaced in log t, float64 (points,). Raises KitError for ends that are none, and no points."""
    if not (0 < low < math.inf and 0 < high < math.inf and points >= 1):
        raise KitError(f"{points} temperatures from {low} to {high} are not allowed; allowed: 1 or more, above 0")
    return torch.logspace(math.log10(low), math.log10(high), points, dtype=torch.float64)


def gradient_curves(
    n: int = 256, seed: int = 0, low: float = 0.05, high: float = 1000.0, points: int = 241
) -> pd.DataFrame:
    """Loss and ∂loss/∂t (batch means) for CE and KL against t, for each of `STUDENTS`, as `_curve` has them."""
    t = log_grid(low, high, points)
    students = [(student, sample_cases(n, seed=seed, student=student)) for student in STUDENTS]
    curves = [_curve(loss, cases, t, student) for student, cases in students for loss in ("CE", "KL")]
    return pd.concat(curves, ignore_index=True)


def _curve(loss: str, cases: Cases, t: Tensor, student: str) -> pd.DataFrame:
    """One loss on a grid t (T,). Columns: student, loss, t, value (nats), derivative (nats per unit of t), log
    derivative = ∂loss/∂log t (D9), and the derivative's two asymptotes, `at 0` (D8) and `at infinity` (D7)."""
    derivative = slopes(cases, t).of(loss).mean(-1)
    columns = {
        "t": t,
        "value": torch.stack([loss_of(loss, cases, ti) for ti in t]),
        "derivative": derivative,
        "log derivative": t * derivative,
        "at 0": -zero_t_gap(cases, hard=loss == "hard").mean() / t**2,
        "at infinity": infinite_t_coefficient(loss, cases).mean() / t ** (2 if loss == "hard" else 3),
    }
    return pd.DataFrame({"student": student, "loss": loss} | {name: at_t.numpy() for name, at_t in columns.items()})


def zero_t_gap(cases: Cases, hard: bool = False) -> Tensor:
    """max zs − zs_a of (D8) with a the teacher's top class (or the label), shape (N,): 0 where the student agrees."""
    a = cases.y if hard else cases.zt.argmax(-1)
    return cases.zs.max(-1).values - cases.zs.gather(-1, a[:, None])[:, 0]


def infinite_t_coefficient(loss: str, cases: Cases) -> Tensor:
    """The numerator of (D7), shape (N,): over t³ for CE and KL, over t² for the hard label."""
    zt = cases.zt - cases.zt.mean(-1, keepdim=True)
    zs = cases.zs - cases.zs.mean(-1, keepdim=True)
    forms = {
        "CE": (2 * zt * zs - zs**2).mean(-1),
        "KL": -((zt - zs) ** 2).mean(-1),
        "hard": zs.gather(-1, cases.y[:, None])[:, 0],
    }
    return of_loss(loss, forms)


def limits_on_grid(
    n: int = 256,
    seed: int = 0,
    student: str = "half-trained",
    ts: Sequence[float] = (0.01, 0.03, 0.1, 1, 20, 100, 1e3, 1e4),
) -> pd.DataFrame:
    """Loss and derivative against their limits, on a grid: how soon the analytic limits are good.

    Columns: loss, t, value (nats), derivative, then derivative ÷ its t → 0+ form (D8) and ÷ its t → ∞ form (D7): each
    tends to 1 at its own end. A student that agrees everywhere has no (D8) form: its ratio there is NaN.
    """
    cases, t = sample_cases(n, seed=seed, student=student), temperatures(ts)
    table = pd.concat([_curve(loss, cases, t, student) for loss in LOSSES], ignore_index=True)
    for name, form in (("÷ form at 0", table["at 0"]), ("÷ form at ∞", table["at infinity"])):
        table[name] = table["derivative"] / form.where(form != 0)
    return table[["loss", "t", "value", "derivative", "÷ form at 0", "÷ form at ∞"]]


def decay_exponents(n: int = 256, seed: int = 0, between: tuple[float, float] = (1e2, 1e3)) -> pd.DataFrame:
    """The measured power of t with which each step shrinks, for descent on t and on log t, from two large temperatures.

    (D7): CE and KL −3 in t and so −2 in log t (D9); the hard label −2 and −1.
    """
    t = temperatures(between)
    if t.shape != (2,) or t[0] == t[1]:
        raise KitError(f"between: {between!r} is not allowed; allowed: two temperatures that differ")
    at_both = slopes(sample_cases(n, seed=seed), t)
    low, high = torch.stack([at_both.of(loss).mean(-1).abs() for loss in LOSSES]).T.numpy()  # (losses,) each
    power = np.log(high / low) / math.log(between[1] / between[0])
    return pd.DataFrame({"loss": LOSSES, "power of t, step in t": power, "power of t, step in log t": power + 1})


def steps_to_one(
    n: int = 256, seed: int = 0, rate: float = 1.0, start: float = K, limit: int = 1_000_000
) -> pd.DataFrame:
    """Steps of plain gradient descent on ∂CE/∂t from `start` to 1 with student = teacher, on t and on log t, same rate.

    `estimate` takes Var_u(z) for Var_p(z) in (D3): (K⁴ − 1) / (4 r V) steps on t and (K² − 1) / (2 r V) on log t, a
    ratio of (K² + 1) / 2. A run longer than `limit` steps counts as `limit`.
    """
    if not rate > 0:
        raise KitError(f"rate: {rate!r} is not allowed; allowed: above 0")
    if not start >= 1:
        raise KitError(f"start: {start!r} is not allowed; allowed: 1 and more")
    cases = sample_cases(n, seed=seed, student="student = teacher")
    variance = infinite_t_coefficient("CE", cases).mean().item()
    grid = torch.linspace(0, math.log(start), 2001, dtype=torch.float64)  # log t
    known = slopes(cases, grid.exp()).ce.mean(-1).numpy()

    def slope(t: float) -> float:  # the exact derivative on a fine grid, interpolated
        return float(np.interp(math.log(t), grid.numpy(), known))

    moves: dict[str, tuple[Callable[[float], float], float]] = {
        "t": (lambda t: t - rate * slope(t), (start**4 - 1) / (4 * rate * variance)),
        "log t": (lambda t: t * math.exp(-rate * t * slope(t)), (start**2 - 1) / (2 * rate * variance)),  # (D9)
    }
    rows = []
    for what, (move, estimate) in moves.items():
        path = [start]
        while path[-1] > 1 and len(path) <= limit:
            path.append(max(move(path[-1]), 1.0))
        after_100 = path[min(100, len(path) - 1)]
        rows.append({"descends on": what, "steps": len(path) - 1, "estimate": estimate, "t after 100 steps": after_100})
    return pd.DataFrame(rows)


# ---- past Section 1.1 ------------------------------------------------------------------------------------------------

WEIGHTS = (0.5, 0.3, 0.2)  # of the teachers in `several_check`: one that is sure, one half as sure, one knows nothing


def several_slope(teachers: Sequence[Tensor], zs: Tensor, weights: Sequence[float], t: float) -> Tensor:
    """(D10), batch mean: the weighted mean of each teacher's gradient, as the trainer has it."""
    terms = (w * temperature_gradient(zt, zs, t).total for w, zt in zip(weights, teachers, strict=True))
    return torch.stack(list(terms)).sum()


def pooled_slope(teachers: Sequence[Tensor], zs: Tensor, weights: Sequence[float], t: float) -> Tensor:
    """What (D10) is not: the covariance taken once, of the mean logits under the mean distribution p̄."""
    p = sum(w * softened(zt, t) for w, zt in zip(weights, teachers, strict=True))  # (N, C)
    zt = sum(w * each for w, each in zip(weights, teachers, strict=True))  # (N, C)
    mismatch = ((p - softened(zs, t)) * zs).sum(-1)
    spread = (p * zt * zs).sum(-1) - (p * zt).sum(-1) * (p * zs).sum(-1)
    return (mismatch / t**2 + spread / t**3).mean()


def t_squared_slope(cases: Cases, t: float) -> Tensor:
    """(D11), batch mean: t²·∂KL/∂t, and what the factor adds to it."""
    return 2 * t * kl_divergence(cases.zt, cases.zs, t) + t**2 * slopes(cases, t).kl.mean()


def several_check(n: int = 256, seed: int = 0, ts: Sequence[float] = (1.0, 2.0, 5.0, 20.0, 100.0)) -> pd.DataFrame:
    """The largest absolute difference to autograd over all `ts`, float64, of the batch mean over n random images.

    Three teachers, weighed by `WEIGHTS`, and a half-trained student.
    """
    cases, ts = sample_cases(n, seed=seed), temperatures(ts).tolist()
    of = [cases.zt, cases.zt / 2, sample_cases(n, seed=seed, student="untrained").zs], cases.zs, WEIGHTS

    def several(t: Tensor) -> Tensor:
        teachers, zs, weights = of
        return torch.stack([w * soft_cross_entropy(zt, zs, t) for w, zt in zip(weights, teachers, strict=True)]).sum()

    def t_squared(t: Tensor) -> Tensor:
        return t**2 * kl_divergence(cases.zt, cases.zs, t)

    three, one = "Σ w L_D of three teachers", "t² KL of one teacher"
    forms: list[tuple[str, str, Callable[[Tensor], Tensor], Callable[[float], Tensor]]] = [
        (three, "(D10): the mean of the teachers' gradients", several, lambda t: several_slope(*of, t)),
        (three, "covariance of mean logits under the mean p", several, lambda t: pooled_slope(*of, t)),
        (one, "(D11)", t_squared, lambda t: t_squared_slope(cases, t)),
    ]
    rows = []
    for name, form, loss, closed in forms:
        errors = [closed(t) - _by_autograd(loss, torch.tensor(t, dtype=torch.float64)) for t in ts]
        rows.append((name, form, max(abs(error).item() for error in errors)))
    return pd.DataFrame(rows, columns=["loss", "form", "max absolute error"])


def directions(n: int = 256, seed: int = 0, ts: Sequence[float] = (2.0, 4.0, 8.0, 20.0)) -> pd.DataFrame:
    """Which way descent moves t, by whose gradient it follows: ∂/∂t of CE, KL and t²·KL, a half-trained student."""
    cases = sample_cases(n, seed=seed)
    rows = []
    for t in temperatures(ts).tolist():
        found = slopes(cases, t)
        of = {"L_D": found.ce.mean(), "KL": found.kl.mean(), "t² KL": t_squared_slope(cases, t)}
        rows.append({"t": t} | {f"∂{loss}/∂t": slope.item() for loss, slope in of.items()})
    return pd.DataFrame(rows)
