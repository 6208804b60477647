"""kit/derivation/symbolic.py: closed forms, lemmas and limits against sympy's own derivatives, and against numbers."""

from __future__ import annotations

import pytest
import sympy as sp
from scipy.special import softmax

from kit.derivation import symbolic
from kit.derivation.symbolic import (
    LOSSES,
    compact_form,
    difference,
    general_difference,
    large_t_difference,
    lemma_differences,
    symbolic_closed_form,
    symbolic_limits,
    symbolic_loss,
    symbols,
)
from kit.errors import KitError


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_closed_forms_equal_sympys_derivative(loss, classes):
    assert difference(loss, classes) == 0
    assert large_t_difference(loss, classes) == 0


def test_difference_sees_a_wrong_closed_form(monkeypatch):
    right = symbolic_closed_form
    monkeypatch.setattr(
        symbolic, "symbolic_closed_form", lambda loss, classes=3: right(loss, classes) / symbols(classes).t
    )
    assert difference("CE") != 0


def test_lemmas_and_general_step():
    assert lemma_differences() == (0, 0)
    assert all(general_difference(classes) == 0 for classes in (2, 4, 7))


def test_symbolic_limits():
    table = symbolic_limits().set_index(["loss", "student"])
    for loss in LOSSES:
        assert list(table.loc[(loss, "agrees")]) == [0, 0 if loss == "KL" else sp.log(2), 0, 0]
        assert list(table.loc[(loss, "disagrees")]) == [sp.oo, 0 if loss == "KL" else sp.log(2), -sp.oo, 0]


@pytest.mark.parametrize("loss", LOSSES)
def test_compact_form_has_the_closed_forms_value(loss):
    z, t = {"zt": (1.0, -2.0, 0.5), "zs": (0.3, 1.1, -0.7)}, 1.7
    p, q = softmax([x / t for x in z["zt"]]), softmax([x / t for x in z["zs"]])
    e_zt, e_zs = p @ z["zt"], p @ z["zs"]
    moments = {
        r"\mathbb{E}_p[z^s]": e_zs,
        r"\mathbb{E}_q[z^s]": q @ z["zs"],
        r"\mathrm{Cov}_p(z^t, z^s)": sum(p * z["zt"] * z["zs"]) - e_zt * e_zs,
        r"\mathrm{Var}_p(z^t)": sum(p * z["zt"] * z["zt"]) - e_zt**2,
        "z^s_y": z["zs"][0],
    }
    s = symbols(3)
    compact = compact_form(loss).rhs.subs({sp.Symbol(k): v for k, v in moments.items()}).subs(s.t, t)
    written = symbolic_closed_form(loss).subs(dict(zip((*s.zt, *s.zs, s.t), (*z["zt"], *z["zs"], t), strict=True)))
    assert float(compact) == pytest.approx(float(written), abs=1e-12)


def test_an_unknown_loss_is_named():
    with pytest.raises(KitError, match="loss 'mse' is not known; allowed: CE, KL, hard"):
        symbolic_loss("mse")
    with pytest.raises(KitError, match="classes: 1 is not allowed; allowed: 2 and more"):
        difference("CE", 1)
