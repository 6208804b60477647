"""Sympy derives ∂L/∂t, proves the closed forms (D1) to (D6), (D10) and (D11), and takes the limits (D7) and (D8)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import pandas as pd
import sympy as sp

from kit.errors import KitError, one_of

LOSSES = ("CE", "KL", "hard")
NAMES = dict(zip(LOSSES, ("L_D", "KL", "L_CE"), strict=True))  # as the paper has them
Form = TypeVar("Form")


class Symbols(NamedTuple):
    """Symbolic logits of C classes, (C, 1) each, and the temperature."""

    zt: sp.Matrix
    zs: sp.Matrix
    t: sp.Symbol


def symbols(classes: int = 3) -> Symbols:
    """Real symbols zt_1 … zt_C, zs_1 … zs_C and a positive t. Raises KitError for fewer than two classes."""
    if classes < 2:
        raise KitError(f"classes: {classes!r} is not allowed; allowed: 2 and more")
    zt, zs = (sp.Matrix([sp.Symbol(f"z^{who}_{i + 1}", real=True) for i in range(classes)]) for who in "ts")
    return Symbols(zt, zs, sp.Symbol("t", positive=True))


def of_loss(loss: str, forms: Mapping[str, Form]) -> Form:
    """One of the forms by its loss. Raises KitError for a loss that is not among them."""
    return forms[one_of("loss", loss, forms)]


def symbolic_softmax(z: sp.Matrix, t: sp.Expr) -> sp.Matrix:
    """softmax(z / t), (C, 1)."""
    exps = (z / t).applyfunc(sp.exp)
    return exps / sp.Add(*exps)


def _log_softmax(z: sp.Matrix, t: sp.Expr) -> sp.Matrix:
    log_total = sp.log(sp.Add(*(z / t).applyfunc(sp.exp)))
    return (z / t).applyfunc(lambda scaled: scaled - log_total)


def covariance(p: sp.Matrix, a: sp.Matrix, b: sp.Matrix) -> sp.Expr:
    """Cov_p(a, b); the mean E_p[a] is p.dot(a)."""
    return p.dot(a.multiply_elementwise(b)) - p.dot(a) * p.dot(b)


def symbolic_loss(loss: str, classes: int = 3) -> sp.Expr:
    """`CE`, `KL` or `hard` (label y = 1) with symbolic logits of C classes, in nats."""
    zt, zs, t = symbols(classes)
    p, log_p, log_q = symbolic_softmax(zt, t), _log_softmax(zt, t), _log_softmax(zs, t)
    return of_loss(loss, {"CE": -p.dot(log_q), "KL": p.dot(log_p - log_q), "hard": -log_q[0]})


def symbolic_derivative(loss: str, classes: int = 3) -> sp.Expr:
    """∂loss/∂t as sympy differentiates it, not simplified."""
    return sp.diff(symbolic_loss(loss, classes), symbols(classes).t)


def _closed_form(
    loss: str, t: sp.Expr, e_p: sp.Expr, e_q: sp.Expr, cov: sp.Expr, var: sp.Expr, zs_y: sp.Expr
) -> sp.Expr:
    """The right-hand side of (D3), (D5) or (D6) of E_p[zs], E_q[zs], Cov_p(zt, zs), Var_p(zt) and zs_y."""
    forms = {
        "CE": (e_p - e_q) / t**2 + cov / t**3,  # (D3)
        "KL": (e_p - e_q) / t**2 + (cov - var) / t**3,  # (D5)
        "hard": (zs_y - e_q) / t**2,  # (D6)
    }
    return of_loss(loss, forms)


def symbolic_closed_form(loss: str, classes: int = 3) -> sp.Expr:
    """(D3), (D5) or (D6) written out in the logits."""
    zt, zs, t = symbols(classes)
    p, q = symbolic_softmax(zt, t), symbolic_softmax(zs, t)
    return _closed_form(loss, t, p.dot(zs), q.dot(zs), covariance(p, zt, zs), covariance(p, zt, zt), zs[0])


def compact_form(loss: str) -> sp.Eq:
    """(D3), (D5) or (D6) with the moments as named symbols: the form to read (renders as LaTeX)."""
    t, names = sp.Symbol("t", positive=True), {"CE": r"L_D", "KL": r"\mathrm{KL}", "hard": r"L_{CE}"}
    moments = (r"\mathbb{E}_p[z^s]", r"\mathbb{E}_q[z^s]", r"\mathrm{Cov}_p(z^t, z^s)", r"\mathrm{Var}_p(z^t)", "z^s_y")
    left = sp.Derivative(sp.Function(of_loss(loss, names))(t), t)
    return sp.Eq(left, _closed_form(loss, t, *map(sp.Symbol, moments)), evaluate=False)


def _numerator(rest: sp.Expr) -> sp.Expr:
    """The expanded numerator of a rational function: 0 exactly where the function is."""
    return sp.expand(sp.fraction(sp.together(rest))[0])


def difference(loss: str, classes: int = 3) -> sp.Expr:
    """What is left of sympy's derivative less the closed form, simplified: 0 when the closed form is right."""
    zt, zs, t = symbols(classes)
    return left_of(symbolic_derivative(loss, classes) - symbolic_closed_form(loss, classes), (*zt, *zs), t)


def left_of(rest: sp.Expr, logits: Sequence[sp.Symbol], t: sp.Symbol) -> sp.Expr:
    """Simplifies what must vanish: a derivative of such losses less its closed form.

    exp(z/t) is replaced by a positive symbol per logit after differentiating, which leaves a rational function, whose
    expanded numerator sympy decides exactly.
    """
    exps = {sp.exp(z / t): sp.Symbol(f"e_{i}", positive=True) for i, z in enumerate(logits)}
    return _numerator(sp.expand_log(rest.xreplace(exps)))


def general_difference(classes: int) -> sp.Expr:
    """The product rule with (D1) and (D2) put in, less (D3), for any distributions p, q over C classes: 0.

    Here p and q are free symbols on the simplex (the last one is 1 less the others), not softmaxes: the step from (D1)
    and (D2) to (D3) is a polynomial identity, which is why it does not depend on C.
    """
    zt, zs, t = symbols(classes)
    p, q = (sp.Matrix([*free, 1 - sp.Add(*free)]) for free in (sp.symbols(f"{name}_1:{classes}") for name in "pq"))
    log_q = (zs / t).applyfunc(lambda scaled: scaled - sp.Symbol("log Z"))
    dp = -p.multiply_elementwise(zt.applyfunc(lambda z: z - p.dot(zt))) / t**2  # (D1)
    dlog_q = -zs.applyfunc(lambda z: z - q.dot(zs)) / t**2  # (D2)
    closed = (p.dot(zs) - q.dot(zs)) / t**2 + covariance(p, zt, zs) / t**3  # (D3)
    return sp.expand(-dp.dot(log_q) - p.dot(dlog_q) - closed)


def lemma_differences(classes: int = 3) -> tuple[sp.Expr, sp.Expr]:
    """(D1) and (D2) for class 1: sympy's derivative less the right-hand side, simplified. Both are 0."""
    zt, zs, t = symbols(classes)
    p, q = symbolic_softmax(zt, t), symbolic_softmax(zs, t)
    d1 = sp.diff(p[0], t) + p[0] * (zt[0] - p.dot(zt)) / t**2
    d2 = sp.diff(sp.log(q[0]), t) + (zs[0] - q.dot(zs)) / t**2
    return _numerator(d1), _numerator(d2)


def several_difference(teachers: int = 2, classes: int = 2) -> sp.Expr:
    """Sympy's ∂(Σ_k w_k CE_k)/∂t less (D10), simplified: 0. Weights are symbols, the last one 1 less the others."""
    if teachers < 1:
        raise KitError(f"teachers: {teachers!r} is not allowed; allowed: 1 and more")
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


def large_t_coefficient(loss: str, classes: int = 3) -> sp.Expr:
    """lim t³ ∂loss/∂t for t → ∞ (t² for the hard label), symbolic, by a Taylor series in u = 1/t.

    With ∂L/∂t = −u² ∂L/∂u, the coefficient of u^(k+1) in the derivative is −k times that of u^k in the loss; k is 2 for
    the soft losses, whose term in u¹ vanishes, and 1 for the hard label.
    """
    t, u = symbols(classes).t, sp.Symbol("u", positive=True)
    k = 1 if loss == "hard" else 2
    taylor = sp.diff(symbolic_loss(loss, classes).subs(t, 1 / u), u, k).subs(u, 0) / sp.factorial(k)
    return sp.expand(-k * taylor)


def large_t_difference(loss: str, classes: int = 3) -> sp.Expr:
    """`large_t_coefficient` less the right-hand side of (D7), simplified: 0."""
    zt, zs, _ = symbols(classes)
    u = sp.ones(classes, 1) / classes
    forms = {  # (D7)
        "CE": 2 * covariance(u, zt, zs) - covariance(u, zs, zs),
        "KL": -covariance(u, zt - zs, zt - zs),
        "hard": zs[0] - u.dot(zs),
    }
    return sp.expand(large_t_coefficient(loss, classes) - of_loss(loss, forms))


def symbolic_limits() -> pd.DataFrame:
    """Limits of loss and derivative by sympy: two classes, symbolic gaps a, b > 0 between the logits.

    The teacher's logits (and the label) are (a, 0); the student agrees with (b, 0) and disagrees with (−b, 0). All are
    analytic in u = 1/t, so that t → ∞ is their value at u = 0. Columns: loss, student, then loss and derivative for
    t → 0+ and t → ∞, as sympy expressions.
    """
    zt, zs, t = symbols(2)
    a, b, u = sp.symbols("a b u", positive=True)
    rows = []
    for loss, (student, sign) in itertools.product(LOSSES, (("agrees", 1), ("disagrees", -1))):
        values = {zt[0]: a, zt[1]: 0, zs[0]: sign * b, zs[1]: 0}
        row = {"loss": loss, "student": student}
        for what, general in (("loss", symbolic_loss(loss, 2)), ("derivative", symbolic_closed_form(loss, 2))):
            expression = general.subs(values)
            row[f"{what}, t→0+"] = sp.limit(expression, t, 0, "+")
            row[f"{what}, t→∞"] = expression.subs(t, 1 / u).subs(u, 0)
        rows.append(row)
    return pd.DataFrame(rows)
