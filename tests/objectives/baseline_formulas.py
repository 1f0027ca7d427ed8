"""The losses of D3PM, SEDD and GIDD as their papers and code write them, one position at a time in float64."""

import numpy as np
import toys
from toys import MASK, V


def definition(name, toy, logits, x0, xt, t):
    """[loss, weight] of one position, written out."""
    logits = logits.astype(float)
    softmax = np.exp(logits) * (np.arange(V) != toy.mask_id)
    softmax = softmax / softmax.sum()
    posterior = softmax * toy.matrix(t)[:, xt]
    posterior = posterior / posterior.sum()
    everywhere = np.broadcast_to(posterior, (V, V))
    length = 1 - 1e-3
    if name == "denoising":
        weight = 2.0 if x0 != xt else 0.5
        return np.array([-weight * np.log(posterior[x0]), weight])
    if name == "d3pm":
        s = max(t - 1e-3, 0)
        true = toy.reverse(t, s)
        kl = toys.divergence(true[x0, xt], np.einsum("k,ky->y", posterior, true[:, xt]))
        return np.array([kl - 0.25 * np.log(posterior[x0]), 1.0])
    if name == "score_entropy":
        return np.array([length * sedd(toy, logits, x0, xt, t), 1.0])
    if name == "gidd":
        return np.array([length * gidd_elbo(toy, softmax, x0, xt, t), 1.0])
    return np.array([length * toys.true_rates(toy, everywhere, t)[x0, xt], 1.0])


def sedd(toy, logits, x, z, t):
    """SEDD's two losses as its code writes them (sigma' times `score_entropy`), from the network's output."""
    sigma, sigma_dot = -np.log(toy.alpha(t)), -toy.alpha_derivative(t) / toy.alpha(t)
    growth = np.expm1(sigma)
    if toy.name == "absorbing":
        if z != MASK:
            return 0.0
        scores = logits - np.log(growth) - np.log(V - 1)
        r = 1 / growth
        others = np.arange(V) != MASK
        return sigma_dot * (np.exp(scores[others]).sum() - r * scores[x] + r * (np.log(r) - 1))
    scores = np.where(np.arange(V) == z, 0.0, logits)
    if toy.name == "uniform":
        r = 1 - V / (growth + V)
        if z == x:
            negative = r * (scores.mean() - scores[z] / V)
            constant = (V - 1) / V * r * (np.log(r) - 1)
        else:
            negative = scores[x] / growth + scores.mean() - scores[z] / V
            constant = ((-np.log(r) - 1) / r - (V - 2)) / V
        return sigma_dot * (np.exp(scores).mean() - np.exp(scores[z]) / V - negative + constant)
    row = toy.matrix(t)[x]
    ratios = row / row[z]
    terms = np.exp(scores) - ratios * scores + ratios * (np.log(ratios) - 1)
    return sigma_dot * toy.nu[z] * terms[np.arange(V) != z].sum()


def gidd_elbo(toy, x_theta, x, z, t):
    """GIDD's ELBO integrand with its weights as `get_weights` writes them, gamma = 1."""
    share = 0.2  # the toy's
    c = 2 * share / (1 - share) * np.sqrt(t * (1 - t))
    c_dot = 0.5 * (1 - 2 * t) / (t * (1 - t)) * c
    n = V - 1
    weight = (c + (1 - t) * c_dot) / ((1 - t) * c)
    if z == x:
        weight = (c + (1 - t) * c_dot) / n / ((1 - t) * (1 - t + c / n))
    if z == MASK:
        weight = 1 / (t * (1 - t))
    true = toy.matrix(t)[x]
    model = x_theta @ toy.matrix(t)
    r = true[z] / model[z]
    return weight * (toys.divergence(true, model) + r - np.log(r) - 1)
