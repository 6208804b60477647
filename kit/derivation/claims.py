"""Section 1.1, claim by claim: each is a check on random images that gives a verdict and the numbers it follows from.

What the numbers mean, notebook 01 says in words beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from kit.derivation.numeric import Cases, K, infinite_t_coefficient, log_grid, loss_of, sample_cases, slopes
from kit.derivation.printed import readings
from kit.errors import KitError
from kit.losses import hard_cross_entropy, kl_divergence, softened

HOLDS, FAILS, CONDITION, OPEN = "holds", "does not hold", "holds with a condition", "cannot be told here"
VANISHED = 1e-3  # of its size elsewhere: smaller than that, a term is counted as gone


class Finding(NamedTuple):
    """What a check says of its claim, and by name the numbers that the verdict follows from or that stand beside it."""

    verdict: str
    numbers: dict[str, float | str | Sequence[float | str]]

    @property
    def evidence(self) -> str:
        """The numbers as text, a line each."""
        return "\n".join(f"{name}: {_text(value)}" for name, value in self.numbers.items())


def _text(value: float | str | Sequence[float]) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value) if isinstance(value, str | int) else ", ".join(map(_text, value))


def verdict_of(passed: Iterable[bool]) -> str:
    """All checks passed: holds; none: does not hold; some: holds with a condition."""
    passed = list(passed)
    return HOLDS if all(passed) else CONDITION if any(passed) else FAILS


def section_1_1_claims(cases: Cases | None = None, alpha: float = 0.5) -> pd.DataFrame:
    """Every claim of Section 1.1 that can be checked, in the order of the text: claim, where, verdict, evidence.

    Verdicts and the numbers in the evidence are computed from `cases` (half-trained student by default), so another
    teacher or student may change them. `alpha` is Eq. (1)'s weight of the soft loss.
    """
    if not 0 <= alpha <= 1:
        raise KitError(f"alpha: {alpha!r} is not allowed; allowed: 0 to 1")
    cases = sample_cases() if cases is None else cases
    table, same = readings(cases), readings(Cases(cases.zt, cases.zt, cases.y))
    section = {
        "before Eq. (1)": {
            "A higher T shrinks the differences between the classes' probabilities": higher_t_flattens(cases),
            "A high T voids the teacher's dark knowledge and the student learns a wrong distribution": (
                high_t_teaches_wrongly(cases, alpha)
            ),
        },
        "below Eq. (1)": {
            "L_D expresses how close the student's distribution is to the teacher's": loss_measures_closeness(cases),
        },
        "the two formulas below Eq. (1)": {
            "∂L_D/∂t is as printed": soft_formula_is_as_printed(table, same),
            "∂L_CE/∂t is as printed": formula_is_as_printed("L_CE", table),
        },
        "below the two formulas": {
            "As t → ∞ the teacher's term in ∂L_D/∂t goes to 0": teacher_vanishes_at_infinity(cases),
            "As t → 0 the teacher's term in ∂L_D/∂t goes to 0": teacher_vanishes_at_zero(cases),
            "so there t depends on the student's distribution only": only_the_student_moves_t(cases),
            "As the student's distribution nears the labels, t tends to 1": near_labels_t_tends_to_one(cases),
            "The teacher only affects the student's final accuracy, t its speed of convergence": (
                teacher_for_accuracy_t_for_speed(cases)
            ),
        },
        "below Eq. (1) and the two formulas": {
            "An adaptive t therefore learns faster, saves time and memory and makes a better student": (
                Finding(OPEN, {"needs": "training runs, see notebooks 02 to 06"})
            ),
        },
        "before the improved loss": {
            "The temperature gradients of soft and hard loss are similar": gradients_are_similar(cases),
            "In the soft loss T falls as the student's accuracy rises and ends at 1": (
                t_falls_as_the_student_learns(cases)
            ),
        },
        "Eq. (1); before the improved loss": {
            "The hard loss's temperature is 1, while Eq. (1) prints T in it": hard_temperature_is_one(cases),
        },
    }
    return pd.DataFrame(
        {"claim": claim, "where": where, "verdict": found.verdict, "evidence": found.evidence}
        for where, claims in section.items()
        for claim, found in claims.items()
    )


# ---- what the checks look at -----------------------------------------------------------------------------------------


def teacher_part(cases: Cases, t: float) -> Tensor:
    """What the teacher adds to ∂L_D/∂t, shape (N,): (D3) less its value for a teacher that knows nothing (zt = 0).

    Unlike the single terms of (D3) this does not change when a constant is added to zs.
    """
    return slopes(cases, t).ce - slopes(Cases(torch.zeros_like(cases.zt), cases.zs, cases.y), t).ce


def student_near_labels(cases: Cases, confidence: float = 0.99) -> Cases:
    """The same teacher and labels, with a student that gives its label the probability `confidence` at t = 1."""
    if not 0 < confidence < 1:
        raise KitError(f"confidence: {confidence!r} is not allowed; allowed: above 0 and below 1")
    classes = cases.zs.shape[1]
    margin = math.log(confidence * (classes - 1) / (1 - confidence))
    return Cases(cases.zt, margin * F.one_hot(cases.y, classes).double(), cases.y)


def resting_temperature(cases: Cases, loss: str = "CE", low: float = 0.05, points: int = 600) -> Tensor:
    """Where descent on `loss` from t = K comes to rest, image by image, shape (N,), with nothing but `low` and K to
    stop it.

    The first zero of the derivative below K; `low` where there is none, K where the derivative is not positive at K.
    """
    t = log_grid(K, low, points)
    slope = slopes(cases, t).of(loss)  # (T, N): where it is positive descent lowers t
    falls = slope > -1e-9  # for a small t it may round to 0 on its way to 0: that is no turning point
    falls[0] = slope[0] > 0
    stopped = falls.long().cumprod(0).sum(0).clamp(max=points - 1)  # (N,): grid points passed before the first zero
    return t[stopped]


def _vanished(there: Tensor, elsewhere: Tensor) -> Tensor:
    """Which images' terms (N,) have gone to 0."""
    return there.abs() <= VANISHED * elsewhere.abs() + 1e-15


def _at(ts: Iterable[float], name: str = "t") -> str:
    """`at t = 1, 5, 20`, for the name of a list of numbers."""
    return f"at {name} = {', '.join(f'{t:g}' for t in ts)}"


# ---- the checks ------------------------------------------------------------------------------------------------------


def higher_t_flattens(cases: Cases) -> Finding:
    ts = (1.0, 2.0, 5.0, 20.0, 100.0)
    p = torch.stack([softened(cases.zt, t) for t in ts])  # (T, N, C)
    entropy = -(p * p.clamp_min(1e-300).log()).sum(-1)  # (T, N)
    spans = p.max(-1).values - p.min(-1).values
    return Finding(
        verdict_of([bool((entropy.diff(dim=0) >= -1e-12).all()), bool((spans.diff(dim=0) <= 1e-12).all())]),
        {f"largest less smallest probability {_at(ts, 'T')}": spans.mean(-1).tolist()},
    )


def high_t_teaches_wrongly(cases: Cases, alpha: float) -> Finding:
    ts, one_hot = (1.0, 5.0, 20.0), F.one_hot(cases.y, cases.zt.shape[1]).double()

    def drift(share: float) -> list[float]:  # KL at T = 1 to the student that minimises Eq. (1), learnt at each T
        best = [t * (share * softened(cases.zt, t) + (1 - share) * one_hot).clamp_min(1e-300).log() for t in ts]
        return [kl_divergence(cases.zt, zs, 1.0).item() for zs in best]

    soft, printed = drift(1), drift(alpha)  # of L_D alone, and as printed
    pull = softened(cases.zt, 1000.0) - 1 / cases.zt.shape[1]  # along −∂L_D/∂zs of a student that knows nothing, (N, C)
    cosine = F.cosine_similarity(pull.flatten(), (cases.zt - cases.zt.mean(-1, keepdim=True)).flatten(), dim=0)
    return Finding(
        verdict_of(kl[-1] > 2 * kl[0] + 1e-6 for kl in (soft, printed)),
        {
            "KL to the minimiser of L_D alone (nats), at most": max(map(abs, soft)),
            "cosine of its pull with zt − mean(zt) at T = 1000": cosine.item(),
            f"KL to the minimiser of Eq. (1), α = {alpha:g}, learnt {_at(ts, 'T')}": printed,
        },
    )


def loss_measures_closeness(cases: Cases) -> Finding:
    ts, way = (1.0, 5.0, K), torch.linspace(0, 1, 11).tolist()  # from the student to its teacher
    nearer = [Cases(cases.zt, (1 - f) * cases.zs + f * cases.zt, cases.y) for f in way]
    falls = torch.tensor([[loss_of("CE", each, t) for each in nearer] for t in ts]).diff() <= 1e-12  # (T, 10)
    ce, kl = ([loss_of(loss, nearer[-1], t).item() for t in ts] for loss in ("CE", "KL"))
    return Finding(
        verdict_of([bool(falls.all()), max(ce) - min(ce) <= 1e-6]),
        {f"L_D of student = teacher (nats) {_at(ts)}": ce, "its KL (nats), at most": max(map(abs, kl))},
    )


def formula_is_as_printed(target: str, table: pd.DataFrame) -> Finding:
    rows = table[table["target"] == target]  # the closest first, of the literal readings and of the repaired ones
    literal, repaired = rows[rows["as printed"]], rows[~rows["as printed"]]
    numbers: dict[str, float | str] = {}
    for kind, of_kind in (("to the letter", literal), ("repaired", repaired)):
        best = of_kind.iloc[0]
        named = ", ".join(filter(None, best[["form", "bracket", "factor", "j", "weight"]]))
        numbers[f"closest of {len(of_kind)} readings {kind}"] = named
        numbers[f"its relative error to autograd, {kind}"] = float(best["relative error"])
    numbers["to the letter, left after the best constant factor for each"] = float(literal["after constant"].min())
    return Finding(verdict_of([bool((literal["relative error"] < 1e-6).any())]), numbers)


def soft_formula_is_as_printed(table: pd.DataFrame, same: pd.DataFrame) -> Finding:
    verdict, numbers = formula_is_as_printed("L_D", table)
    near = same[same["target"] == "L_D"].sort_values("after constant").iloc[0]
    named = (near["form"], near["bracket"], near["j"], f"factor {near['constant']:.2f} × {near['factor']}")
    return Finding(verdict, numbers | {"closest at p = q": named, "left there": float(near["after constant"])})


def teacher_vanishes_at_infinity(cases: Cases) -> Finding:
    near, far = teacher_part(cases, 10.0), teacher_part(cases, 1e4)
    sizes = [part.abs().mean().item() for part in (near, far)]
    return Finding(
        verdict_of(_vanished(far, near).tolist()),
        {"mean size of the teacher's part at t = 10, 10⁴": sizes, "at t = 10⁴ in log t": 1e4 * sizes[1]},
    )


def teacher_vanishes_at_zero(cases: Cases) -> Finding:
    near, small = teacher_part(cases, 1.0), teacher_part(cases, 1e-3)
    at_one, at_zero = slopes(cases, 1.0), slopes(cases, 1e-3)
    vanishes = _vanished(small, near)
    return Finding(
        verdict_of(vanishes.tolist()),
        {
            f"of {len(vanishes)} images, where the teacher's part vanishes": int(vanishes.sum()),
            "its mean size at t = 1, 0.001": [near.abs().mean().item(), small.abs().mean().item()],
            "where Cov_p(zt, zs)/t³ vanishes": int(_vanished(at_zero.spread, at_one.spread).sum()),
            "where the whole derivative vanishes": int(_vanished(at_zero.ce, at_one.ce).sum()),
            "where both models name the same class": int((cases.zt.argmax(-1) == cases.zs.argmax(-1)).sum()),
        },
    )


def only_the_student_moves_t(cases: Cases) -> Finding:
    whole = infinite_t_coefficient("CE", cases)
    alone = infinite_t_coefficient("CE", Cases(torch.zeros_like(cases.zt), cases.zs, cases.y))
    share = ((whole - alone).abs() / alone.abs().clamp_min(1e-300)).median().item()
    other = Cases(cases.zt.roll(1, dims=-1), cases.zs, cases.y)  # the same teacher with its classes renamed
    ts = (0.1, 1e3)
    turned = [int((slopes(cases, t).ce.sign() != slopes(other, t).ce.sign()).sum()) for t in ts]
    return Finding(
        verdict_of([share < 0.01, not any(turned)]),
        {
            "teacher's part over the student's, t → ∞ (median)": share,
            f"of {len(whole)} images, turned around by renaming the teacher's classes {_at(ts)}": turned,
        },
    )


def near_labels_t_tends_to_one(cases: Cases) -> Finding:
    near = student_near_labels(cases)
    rest = resting_temperature(near)
    sharp = resting_temperature(Cases(near.zt, 4 * near.zs, near.y))  # a student four times as sure of its labels
    at_one, below = (rest - 1).abs() < 0.1, rest < 0.9
    falls = verdict_of((at_one | below).tolist())
    q = softened(cases.zs, 1.0)  # labels drawn from the student's own distribution: a calibrated student
    calibrated = (q * (cases.zs - (q * cases.zs).sum(-1, keepdim=True))).sum(-1).mean().item()  # E_y of (D6) at t = 1
    return Finding(
        CONDITION if falls == HOLDS and below.any() else falls,
        {
            f"of {len(rest)} images, where t passes 1 on its way from {K:g}": int(below.sum()),
            "where it rests within 10 % of 1": int(at_one.sum()),
            "∂L_D/∂t of the batch at t = 1": slopes(near, 1.0).ce.mean().item(),
            f"where a student four times as sure rests at t = {K:g}": int((sharp > 0.99 * K).sum()),
            "expected ∂L_CE/∂t of a calibrated student at t = 1": calibrated,
        },
    )


def teacher_for_accuracy_t_for_speed(cases: Cases) -> Finding:
    ts = (1.0, K)

    def pull(zt: Tensor) -> list[float]:  # ‖∂L_D/∂zs‖, the mean over the images
        return [((softened(cases.zs, t) - softened(zt, t)) / t).norm(dim=-1).mean().item() for t in ts]

    return Finding(
        OPEN,
        {
            "needs": "training runs",
            f"pull on the logits {_at(ts)}": pull(cases.zt),
            "with the teacher's logits doubled": pull(2 * cases.zt),
        },
    )


def gradients_are_similar(cases: Cases) -> Finding:
    right = cases.zt.argmax(-1) == cases.y
    ts = (1.0, 2.0, 5.0, 10.0, K)

    def apart(sureness: float) -> list[float]:
        each = [slopes(Cases(sureness * cases.zt, cases.zs, cases.y), t) for t in ts]
        return [((s.ce - s.hard)[right].norm() / s.hard[right].norm().clamp_min(1e-300)).item() for s in each]

    off, sure, at_k = apart(1), apart(100), slopes(cases, K)
    return Finding(
        verdict_of(e <= 0.1 for e in (*off, *sure)) if right.any() else OPEN,
        {
            f"in the {int(right.sum())} images where the teacher is right, relative difference {_at(ts)}": off,
            "with a teacher a hundred times as sure, at most": max(sure),
            f"hard over soft derivative of the batch at t = {K:g}": (at_k.hard.mean() / at_k.ce.mean()).item(),
        },
    )


def t_falls_as_the_student_learns(cases: Cases) -> Finding:
    g = torch.Generator().manual_seed(0)
    start = 0.5 * torch.randn(cases.zt.shape, generator=g, dtype=torch.float64)  # an untrained student
    ts, path = (1.0, 5.0, K), [x / 20 for x in range(21)]
    way = [slopes(Cases(cases.zt, f * cases.zt + (1 - f) * start, cases.y), torch.tensor(ts)) for f in path]
    ce, kl = (torch.stack([s.of(loss).mean(-1) > 1e-9 for s in way]) for loss in ("CE", "KL"))  # (path, T)
    begins = [next((f"{f:.0%}" for f, falls in zip(path, at_t, strict=True) if falls), "never") for at_t in ce.T]
    over = slopes(Cases(cases.zt, 3 * cases.zt, cases.y), K).ce.mean().item()
    # That t falls is half of the claim; that it ends at 1 needs a derivative of 0 there, or else the clamp.
    stops_at_one = abs(slopes(Cases(cases.zt, cases.zt, cases.y), 1.0).ce.mean().item()) < 1e-6
    return Finding(
        verdict_of([*ce[-1].tolist(), stops_at_one]) if ce[-1].any() else FAILS,
        {
            f"of the way to the teacher, from where t falls {_at(ts)}": begins,
            f"of {len(path)} points, where it falls with KL in L_D's place {_at(ts)}": kl.sum(0).tolist(),
            f"∂L_D/∂t with three times the teacher's logits at t = {K:g}": over,
        },
    )


def hard_temperature_is_one(cases: Cases) -> Finding:
    ts = (1.0, 5.0, K)
    at_one = hard_cross_entropy(cases.zs, cases.y).item()
    off = [abs(hard_cross_entropy(cases.zs, cases.y, t).item() / at_one - 1) for t in ts]
    return Finding(verdict_of(e < 1e-9 for e in off), {f"L_S(T) to L_S(1), relative difference {_at(ts, 'T')}": off})
