"""Past Section 1.1: (D10) of several teachers and (D11) of t²·KL, by sympy and by autograd."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import sympy as sp
import torch
from torch import Tensor

from kit.derivation.numeric import Cases, sample_cases, slopes
from kit.derivation.symbolic import covariance, left_of, symbolic_loss, symbolic_softmax, symbols
from kit.losses import kl_divergence, soft_cross_entropy, softened, temperature_gradient

WEIGHTS = (0.5, 0.3, 0.2)  # of the teachers in `several_check`
TEACHERS = ("sure", "half as sure", "knows nothing")


def several_difference(teachers: int = 2, classes: int = 2) -> sp.Expr:
    """Sympy's ∂(Σ_k w_k CE_k)/∂t less (D10), simplified: 0. Weights are symbols, the last one 1 less the others."""
    zt, zs, t = symbols(classes)
    free = sp.symbols(f"w_1:{teachers}", positive=True)
    weights = [*free, 1 - sp.Add(*free)]
    zts = [zt.applyfunc(lambda z, k=k: sp.Symbol(f"{z}_{k}", real=True)) for k in range(teachers)]
    losses = (symbolic_loss("CE", classes).xreplace(dict(zip(zt, own, strict=True))) for own in zts)
    loss = sp.Add(*(w * each for w, each in zip(weights, losses, strict=True)))
    p, q = [symbolic_softmax(own, t) for own in zts], symbolic_softmax(zs, t)
    mean = sum((w * each for w, each in zip(weights, p, strict=True)), sp.zeros(classes, 1))  # p̄
    spread = sp.Add(*(w * covariance(each, own, zs) for w, each, own in zip(weights, p, zts, strict=True)))
    rest = sp.diff(loss, t) - (mean - q).dot(zs) / t**2 - spread / t**3
    return left_of(rest, (*zs, *(z for own in zts for z in own)), t)


def t_squared_difference(classes: int = 3) -> sp.Expr:
    """Sympy's ∂(t² KL)/∂t less (D11), simplified: 0."""
    zt, zs, t = symbols(classes)
    kl, p, q = symbolic_loss("KL", classes), symbolic_softmax(zt, t), symbolic_softmax(zs, t)
    closed = 2 * t * kl + (p - q).dot(zs) + covariance(p, zt, zs - zt) / t
    return left_of(sp.diff(t**2 * kl, t) - closed, (*zt, *zs), t)


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

    Three teachers (`TEACHERS`, weighed by `WEIGHTS`), and a half-trained student.
    """
    cases = sample_cases(n, seed=seed)
    teachers = [cases.zt, cases.zt / 2, sample_cases(n, seed=seed, student="untrained").zs]

    def right(t: float, t_squared: bool) -> Tensor:
        leaf = torch.tensor(t, dtype=torch.float64, requires_grad=True)
        several = (w * soft_cross_entropy(zt, cases.zs, leaf) for w, zt in zip(WEIGHTS, teachers, strict=True))
        loss = leaf**2 * kl_divergence(cases.zt, cases.zs, leaf) if t_squared else torch.stack(list(several)).sum()
        return torch.autograd.grad(loss, leaf)[0]

    forms = {
        ("Σ w L_D of three teachers", "(D10): the mean of the teachers' gradients"): lambda t: (
            several_slope(teachers, cases.zs, WEIGHTS, t) - right(t, False)
        ),
        ("Σ w L_D of three teachers", "covariance of mean logits under the mean p"): lambda t: (
            pooled_slope(teachers, cases.zs, WEIGHTS, t) - right(t, False)
        ),
        ("t² KL of one teacher", "(D11)"): lambda t: t_squared_slope(cases, t) - right(t, True),
    }
    rows = [(*what, max(abs(error(t).item()) for t in ts)) for what, error in forms.items()]
    return pd.DataFrame(rows, columns=["loss", "form", "max absolute error"])


def directions(n: int = 256, seed: int = 0, ts: Sequence[float] = (2.0, 4.0, 8.0, 20.0)) -> pd.DataFrame:
    """Which way descent moves t, by whose gradient it follows: ∂/∂t of CE, KL and t²·KL, a half-trained student."""
    cases = sample_cases(n, seed=seed)
    rows = []
    for t in ts:
        found = slopes(cases, t)
        of = {"L_D": found.ce.mean(), "KL": found.kl.mean(), "t² KL": t_squared_slope(cases, t)}
        rows.append({"t": t} | {f"∂{loss}/∂t": slope.item() for loss, slope in of.items()})
    return pd.DataFrame(rows)
