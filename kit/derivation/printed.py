"""The two formulas as Section 1.1 prints them: every reading of the damaged print, measured against autograd."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

from kit.derivation.numeric import Cases, autograd_slopes, sample_cases, slopes, temperatures
from kit.errors import KitError, one_of
from kit.losses import softened

TARGETS = {"L_D": "CE", "L_CE": "hard"}  # the two formulas, and the loss whose derivative each is said to be
FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # what "zs_i zs_j" may have been
    "zs_i · zs_j": lambda zi, zj: zi * zj,
    "zs_i / zs_j": lambda zi, zj: zi / zj,
    "zs_i − zs_j": lambda zi, zj: zi - zj,
}
BRACKETS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {  # L_D's bracket, whose fraction bar is lost
    "1 + (zs_i − zs_j)/t": lambda zi, zj, t: 1 + (zi - zj) / t,
    "(1 + zs_i − zs_j)/t": lambda zi, zj, t: (1 + zi - zj) / t,
    "1 + zs_i − zs_j/t": lambda zi, zj, t: 1 + zi - zj / t,
}
INDEX_J: dict[str, Callable[[Tensor, Tensor, Cases], Tensor]] = {  # what the free j may mean: terms (N, i, j) → (N,)
    "j summed": lambda terms, p, cases: terms.sum((1, 2)),
    "j averaged": lambda terms, p, cases: terms.mean(2).sum(1),
    "j ≠ i summed": lambda terms, p, cases: terms.sum((1, 2)) - terms.diagonal(dim1=1, dim2=2).sum(-1),
    "pairs, p_i p_j": lambda terms, p, cases: (terms * p[:, None, :]).sum((1, 2)),
    "j = label": lambda terms, p, cases: _at(terms, cases.y),
    "j = teacher's top": lambda terms, p, cases: _at(terms, cases.zt.argmax(-1)),
    "j = student's top": lambda terms, p, cases: _at(terms, cases.zs.argmax(-1)),
}
WEIGHTS = ("p of the student", "p of the teacher")
FACTORS: dict[str, Callable[[float], float]] = {"1": lambda t: 1.0, "1/t": lambda t: 1 / t, "1/t²": lambda t: t**-2}


def printed_formula(
    target: str,
    cases: Cases,
    t: float,
    j: str = "j summed",
    weight: str = "p of the student",
    form: str = "zs_i · zs_j",
    bracket: str = "1 + (zs_i − zs_j)/t",
    factor: str = "1",
) -> Tensor:
    """One reading of ∂L_D/∂t or ∂L_CE/∂t (`target` "L_D" or "L_CE") as printed, image by image, shape (N,).

    −Σ_i zs_i zs_j (1 + (zs_i − zs_j)/t) p_i(zs_i, t), without the bracket for L_CE. The free index j, the owner of p
    and three repairs of the print (`form`, `bracket`, `factor`) are options; the defaults are the print to the letter.
    """
    known = {"target": TARGETS, "j": INDEX_J, "weight": WEIGHTS, "form": FORMS, "factor": FACTORS}
    for (what, allowed), value in zip(known.items(), (target, j, weight, form, factor), strict=True):
        one_of(what, value, allowed)
    t = temperatures(t).item()
    p = softened(cases.zs if weight == "p of the student" else cases.zt, t)  # (N, C)
    zi, zj = cases.zs[:, :, None], cases.zs[:, None, :]  # (N, C, 1) and (N, 1, C)
    terms = FORMS[form](zi, zj)  # (N, C, C)
    if target == "L_D":
        terms = terms * BRACKETS[one_of("bracket", bracket, BRACKETS)](zi, zj, t)
    return INDEX_J[j](-FACTORS[factor](t) * terms * p[:, :, None], p, cases)


def _at(terms: Tensor, j: Tensor) -> Tensor:
    """The sum over i of terms (N, C, C) at one j an image, (N,)."""
    return terms.sum(1).gather(-1, j[:, None])[:, 0]


def readings(cases: Cases | None = None, ts: Sequence[float] = (1.0, 2.0, 5.0, 10.0, 20.0)) -> pd.DataFrame:
    """Every reading of the two printed formulas against autograd, the closest first within "as printed" and "repaired".

    Columns: target, the reading (j, weight, form, bracket, factor), `as printed` (nothing repaired), `relative error` =
    ‖reading − autograd‖ ÷ ‖autograd‖ over the images, the median over `ts` (0 would be a match, 1 is no better than
    predicting 0), `worst` the largest over `ts`, `constant`, the one factor that brings it closest over all `ts`, the
    relative error left after it, and `correlation` with autograd over all images and `ts`.
    """
    cases, ts = sample_cases() if cases is None else cases, temperatures(ts).tolist()
    rows = []
    for target, loss in TARGETS.items():
        want = [autograd_slopes(loss, cases, t) for t in ts]
        brackets = list(BRACKETS) if target == "L_D" else [""]
        for j, weight, form, bracket, factor in itertools.product(INDEX_J, WEIGHTS, FORMS, brackets, FACTORS):
            reading = {"j": j, "weight": weight, "form": form, "bracket": bracket, "factor": factor}
            got = [printed_formula(target, cases, t, **reading) for t in ts]
            literal = (form, bracket, factor) == (next(iter(FORMS)), brackets[0], "1")
            rows.append({"target": target, "as printed": literal} | reading | _misfit(got, want))
    order = {"target": False, "as printed": False, "relative error": True}
    return pd.DataFrame(rows).sort_values(list(order), ascending=list(order.values()), ignore_index=True)


def _misfit(got: list[Tensor], want: list[Tensor]) -> dict[str, float]:
    """How far `got` is from `want`, both lists of (N,) tensors, one per t; NaN for a reading that is 0 or infinite."""
    g, w = torch.cat(got), torch.cat(want)
    if not torch.isfinite(g).all() or g.norm() <= 1e-9 * w.norm():
        return dict.fromkeys(("relative error", "worst", "constant", "after constant", "correlation"), math.nan)
    errors = sorted(((a - b).norm() / b.norm()).item() for a, b in zip(got, want, strict=True))
    constant = ((g @ w) / (g @ g)).item()
    return {
        "relative error": errors[len(errors) // 2],
        "worst": errors[-1],
        "constant": constant,
        "after constant": ((constant * g - w).norm() / w.norm()).item(),
        "correlation": torch.corrcoef(torch.stack([g, w]))[0, 1].item(),
    }


def scale_check(cases: Cases | None = None, t: float = 5.0, shift: float = 1.0, scale: float = 2.0) -> pd.DataFrame:
    """Two laws that every temperature derivative obeys, tested on autograd, the closed forms and the print.

    `shift`: adding a constant to all of zs changes nothing, as softmax does not see it; the column is the relative
    change. `degree`: CE(c·z, c·t) = CE(z, t), so the derivative is homogeneous of degree −1 in (zt, zs, t); the column
    is log(‖f(c·z, c·t)‖ ÷ ‖f(z, t)‖) ÷ log c.
    """
    if not 0 < scale < math.inf or scale == 1:
        raise KitError(f"scale: {scale!r} is not allowed; allowed: above 0, and not 1")
    cases = sample_cases() if cases is None else cases
    moved = Cases(cases.zt, cases.zs + shift, cases.y)
    scaled = Cases(scale * cases.zt, scale * cases.zs, cases.y)
    formulas: dict[str, Callable[[Cases, float], Tensor]] = {
        "∂L_D/∂t, autograd": lambda c, at: autograd_slopes("CE", c, at),
        "∂L_D/∂t, (D3)": lambda c, at: slopes(c, at).ce,
        "∂L_CE/∂t, autograd": lambda c, at: autograd_slopes("hard", c, at),
        "∂L_CE/∂t, (D6)": lambda c, at: slopes(c, at).hard,
    }
    for target, j in itertools.product(TARGETS, ("j summed", "j = label")):
        formulas[f"∂{target}/∂t as printed, {j}"] = lambda c, at, target=target, j=j: printed_formula(target, c, at, j)
    rows = []
    for name, formula in formulas.items():
        base, after, big = formula(cases, t), formula(moved, t), formula(scaled, scale * t)
        change = ((after - base).norm() / base.norm()).item()
        degree = math.log((big.norm() / base.norm()).item()) / math.log(scale)
        rows.append({"formula": name, "change under a shift": change, "degree": degree})
    return pd.DataFrame(rows)
