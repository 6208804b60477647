"""The temperature's gradient of the paper's Section 1.1: derived with sympy, checked against autograd, and compared
with what the paper prints and claims.

p = softmax(zt / t) is the teacher's softened distribution, q = softmax(zs / t) the student's, u the uniform one; E, Cov
and Var are moments over the C classes. Losses are in nats and t has the unit of a logit. The equations used in this
room, which notebook 01 derives in words:

    (D1)  ∂p_i/∂t     = −p_i (zt_i − E_p[zt]) / t²
    (D2)  ∂log q_i/∂t = −(zs_i − E_q[zs]) / t²
    (D3)  ∂CE/∂t      = (E_p[zs] − E_q[zs]) / t² + Cov_p(zt, zs) / t³          soft cross-entropy, the paper's L_D
    (D4)  ∂H(p)/∂t    = Var_p(zt) / t³                                         entropy of the teacher
    (D5)  ∂KL/∂t      = (E_p[zs] − E_q[zs]) / t² + Cov_p(zt, zs − zt) / t³     (D3) less (D4)
    (D6)  ∂L_CE/∂t    = (zs_y − E_q[zs]) / t²                                  hard label y
    (D7)  t → ∞       : ∂CE/∂t ≈ (2 Cov_u(zt, zs) − Var_u(zs)) / t³,  ∂KL/∂t ≈ −Var_u(zt − zs) / t³,
                        ∂L_CE/∂t ≈ (zs_y − E_u[zs]) / t²;   CE → log C, KL → 0, L_CE → log C
    (D8)  t → 0+      : with a = argmax zt (or y), CE, KL, L_CE ≈ (max zs − zs_a) / t and
                        derivatives ≈ −(max zs − zs_a) / t²;
                        where both models agree on the top class the loss and its derivative go to 0
    (D9)  ∂L/∂log t   = t ∂L/∂t
    (D10) ∂(Σ_k w_k CE_k)/∂t = (E_p̄[zs] − E_q[zs]) / t² + Σ_k w_k Cov_p_k(zt_k, zs) / t³    teachers k, Σ_k w_k = 1,
                        p̄ = Σ_k w_k p_k
    (D11) ∂(t² KL)/∂t = 2t KL + (E_p[zs] − E_q[zs]) + Cov_p(zt, zs − zt) / t
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
