"""The paper's propositions, each with what is true of it and the numbers that say so.

The numbers are computed by `counterexamples` on eight tokens of text on a ring (and the mask), each of whose neighbors
are the two next to it. Call `claims` in float64.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from semdlm_jax.theory import counterexamples as toys

HOLDS, CONDITIONAL, FAILS = "holds", "holds under a condition", "fails"
LENGTH = 8
KERNELS = ("absorbing", "semantic_knn", "semdlm_plus", "uniform")


class Claim(NamedTuple):
    """A statement of the paper.

    Attributes:
        place: where it stands.
        says: the statement.
        verdict: HOLDS, CONDITIONAL or FAILS.
        why: the reason, or the condition.
        numbers: {what: value}, in nats unless said otherwise.
    """

    place: str
    says: str
    verdict: str
    why: str
    numbers: Mapping[str, float]


def _claim(place, says, verdict, why, **numbers: Any) -> Claim:
    return Claim(place, says, verdict, why, {name: float(value) for name, value in numbers.items()})


def errors() -> Iterator[Claim]:
    """Propositions 1, 5 and 2."""
    joint, sampler, masks = toys.joint_terms(), toys.sampler_terms(), toys.sampler_terms("absorbing")
    yield _claim(
        "Proposition 5 (Eq. 24, 35)",
        "generation error = sampling + approximation - forward mismatch, at every t",
        HOLDS,
        "it is the chain rule of KL, for any two joint laws of (x0, x_t)",
        generation=joint.generation,
        sampling=joint.sampling,
        approximation=joint.approximation,
        residual=joint.residual,
    )
    yield _claim(
        "Proposition 1 (Eq. 10)",
        "generation error = sampling error of the roll-out + approximation error of the network",
        CONDITIONAL,
        "the paper assumes p(x_t | x0) = q(x_t | x0), which is no choice of the forward path: p_t and p(x0 | x_t) must "
        "belong to one joint law. A sampler's roll-out and its network's posterior do not: 16 steps, posterior q^0.5, "
        "here under uniform noise. Under masks, for one token, the sum is exact",
        generation=sampler.generation,
        sampling=sampler.sampling,
        approximation=sampler.approximation,
        residual=sampler.residual,
        residual_with_masks=masks.residual,
    )
    equal_sampling, equal_approximation = toys.variances_of_equal_texts()
    sampling, approximation = toys.variances()
    late_sampling, late_approximation = toys.variances(0.9)
    yield _claim(
        "Proposition 2 (Eq. 11, 12, 40)",
        "error = bias + variance, and the variance is not negative",
        HOLDS,
        "Jensen's inequality. Eq. 12 and 43 lack E_S on the left; the brace of Eq. 41 calls E log p the log of the "
        "mean",
        variance=approximation,
    )
    yield _claim(
        "Appendix B.6.1 (Eq. 88)",
        "sampling variance <= approximation variance at every step",
        FAILS,
        "Eq. 80 is no law of total probability: p(x_t | x0) stands there as p(x0 | x_t). Eq. 88 assumes that all runs "
        "write the same text and that the mean of their posteriors is the true one. If x_t tells nothing of x0 in any "
        "run, all posteriors are equal, and the laws of x_t need not be. With one forward kernel for all runs these "
        "assumptions make both variances 0; without them, of runs of flat and skewed text, there is no order: t = 0.1, "
        "and late, t = 0.9",
        equal_texts_sampling=equal_sampling,
        equal_texts_approximation=equal_approximation,
        sampling=sampling,
        approximation=approximation,
        late_sampling=late_sampling,
        late_approximation=late_approximation,
    )


def difficulty() -> Iterator[Claim]:
    """Propositions 3 and 6."""
    flat, paired = toys.flat_prior(), toys.paired_prior()
    found = {name: toys.geometry_over_time(toys.kernel(name), flat)[0] for name in KERNELS}
    why = "means over t, flat text"
    yield _claim(
        "Propositions 3 and 6, d_act (Eq. 17, 63)",
        "E d_act: masks <= semantic <= uniform",
        CONDITIONAL,
        f"masks have half of the support on average, so neighborhoods must be larger than that; {why}: two neighbors "
        "are too few, six are enough, and SemDLM+ has all that uniform noise has",
        absorbing=found["absorbing"].active,
        semantic_knn_2=found["semantic_knn"].active,
        semantic_knn_6=toys.geometry_over_time(toys.kernel("semantic_knn", 6), flat)[0].active,
        semdlm_plus=found["semdlm_plus"].active,
        uniform=found["uniform"].active,
    )
    times, weights = toys.time_quadrature(toys.NODES)
    flat_pairs, paired_pairs = (weights @ toys.pairs_sensitivity(prior, times) for prior in (flat, paired))
    of_pairs = {
        name: toys.geometry_over_time(toys.kernel(name), paired)[0].sensitivity
        for name in ("absorbing", "semantic_knn", "uniform")
    }
    yield _claim(
        "Propositions 3 and 6, I1 (Eq. 17, 64)",
        "E I1: masks <= semantic <= uniform",
        FAILS,
        "no 'intermediate' kernel is defined that would imply it. The case called sufficient, a posterior flat over m "
        "candidates, does not: flat text with noise within pairs is that case at t = 1, where masks have 7/8. In the "
        "mean over t, pairs lie below masks on flat text, and above uniform noise where one pair makes up the text: "
        "uniform noise tells, besides, when it left the pair. Two neighbors without the token itself are below masks "
        "there, and SemDLM+ on flat text is above uniform noise",
        flat_absorbing=found["absorbing"].sensitivity,
        flat_pairs=flat_pairs,
        flat_pairs_at_1=toys.pairs_sensitivity(flat, 1.0),
        flat_semantic_knn=found["semantic_knn"].sensitivity,
        flat_uniform=found["uniform"].sensitivity,
        flat_semdlm_plus=found["semdlm_plus"].sensitivity,
        paired_pairs=paired_pairs,
        **{f"paired_{name}": value for name, value in of_pairs.items()},
    )
    yield _claim(
        "Eq. 61",
        "E I1: masks <= uniform",
        HOLDS,
        "uniform noise is a mask replaced by a random token, and I1 is concave: less information cannot lower its "
        "mean. So it is for every noise that only jumps, at equal alpha, and for the entropy",
        masks=of_pairs["absorbing"],
        uniform=of_pairs["uniform"],
    )


def propagation() -> Iterator[Claim]:
    """Propositions 4 and 7."""
    two = toys.two_states()
    yield _claim(
        "Theorem B.1 (Eq. 68, 69)",
        "B_s <= eta B_t + rho, with rho the largest log-ratio of the kernels",
        HOLDS,
        "the proof is right; two states",
        B_t=two.before,
        B_s=two.after,
        eta=two.contraction,
        bound=two.contraction * two.before + two.step_ratio,
    )
    yield _claim(
        "Propositions 4 and 7, the recursion (Eq. 18)",
        "the same, with rho at least the largest KL of a step, under mild conditions",
        CONDITIONAL,
        "the conditions must contain Eq. 68 of the proof. A rho that bounds the KL, which is all that the statement "
        "asks, is not enough: a KL is taken under the true kernel's own rows, and the mixture p_t Q weighs them "
        "otherwise; the same two states",
        B_s=two.after,
        bound=two.contraction * two.before + two.step_divergence,
    )
    sizes = (1 / 8, 1 / 64, 1 / 512)
    eta = {name: toys.step_contraction(name, 0.5, sizes) for name in KERNELS}
    yield _claim(
        "Eq. 72, 73 and eta of masks",
        "eta = 1 for masks; below 1 for uniform noise, and for semantic noise with jumps",
        HOLDS,
        "steps of 1/8 from t = 0.5. Without jumps neighborhoods that share no token leave eta at 1",
        **{name: values[0] for name, values in eta.items()},
    )
    chains = {(name, count): toys.chain(name, count) for name in ("absorbing", "uniform") for count in (32, 64)}
    bounds, sums = (
        {key: getattr(found, field).sum() for key, found in chains.items()}
        for field in ("divergence_bound", "divergence")
    )
    yield _claim(
        "Propositions 4 and 7, accumulation (Eq. 74 to 76)",
        "the sum of B_t is O(T rho / (1 - eta)), linear in T, where eta < 1, and O(T^2 rho) for masks",
        CONDITIONAL,
        "the sums are right for fixed eta. But T steps share one unit of time, so that T (1 - eta) tends to a "
        "constant, and the bound is of order T^2 rho for every kernel: with twice the steps, 32 and 64, of equal "
        "error the bounds grow alike. The sums themselves do not: with masks errors stay",
        repair_times_T_8=8 * (1 - eta["uniform"][0]),
        repair_times_T_64=64 * (1 - eta["uniform"][1]),
        repair_times_T_512=512 * (1 - eta["uniform"][2]),
        **{f"growth_of_bound_{name}": bounds[name, 64] / bounds[name, 32] for name in ("absorbing", "uniform")},
        **{f"growth_of_sum_{name}": sums[name, 64] / sums[name, 32] for name in ("absorbing", "uniform")},
    )
    ends = {name: chains[name, 64] for name in ("absorbing", "uniform")}
    yield _claim(
        "Eq. 69, in total variation",
        "the recursion, with Dobrushin's coefficient and the largest total variation of a step",
        HOLDS,
        "text of a sampler of 64 steps, each of which draws from anything with the chance 0.001: the distance of its "
        "text from the true one, and the bound",
        **{name: end.variation[-1] for name, end in ends.items()},
        **{f"{name}_bound": end.variation_bound[-1] for name, end in ends.items()},
    )
    one, sequence = toys.sequence_step("uniform", 0.5, 1 / 16, LENGTH)
    yield _claim(
        "Proposition 4, of a sequence",
        "eta < 1 for uniform and semantic noise",
        CONDITIONAL,
        f"true of a token. For {LENGTH} independent tokens 1 - eta is at most BC^{LENGTH}, BC < 1 the Bhattacharyya "
        "coefficient of two rows: it vanishes with the length. A step of 1/16 from t = 0.5",
        one_token=one,
        sequence_at_most=sequence,
    )


def variance() -> Iterator[Claim]:
    """Proposition 8, and what is said of D(Q)."""
    bias = toys.bias_alone()
    prior = toys.flat_prior()
    spread = {name: toys.geometry_over_time(toys.kernel(name), prior)[1] for name in KERNELS}
    wide, narrow = toys.bias_and_table("semdlm_plus"), toys.bias_and_table("semantic_knn")
    yield _claim(
        "Proposition 8 (Eq. 93)",
        "V(Q) = Var_t of the mean gradient >= (c_1 / M)^2 D(Q)",
        FAILS,
        "Eq. 95 takes |E delta| >= E |delta|, which is Jensen's inequality reversed: errors of single states cancel. A "
        "network of biases alone meets all assumptions, with M = 1, and the gradient of the loss is zero at every t",
        V=bias.between,
        bound=bias.bound,
        c_1=bias.error_per_entropy,
        D=bias.dispersion,
    )
    yield _claim(
        "Proposition 8, the constant",
        "c = c_1 / M, with M an upper bound of the gradients of logits",
        FAILS,
        "an upper bound of a factor bounds a product from above, not from below: with logits theta + 0.001 theta_x, a "
        "bias and a little of a table, M stays 1 and V is a millionth of the table's. SemDLM+, flat text",
        V=wide.between,
        bound=wide.bound,
        c_1=wide.error_per_entropy,
        M=wide.largest_gradient,
    )
    yield _claim(
        "Proposition 8, the order",
        "D(A) > D(B) implies V(A) > V(B)",
        FAILS,
        "two lower bounds are compared. The same network, for which both kernels meet Eq. 92: SemDLM+ has the larger D "
        "and the smaller V",
        D_semdlm_plus=wide.dispersion,
        D_semantic_knn=narrow.dispersion,
        V_semdlm_plus=wide.between,
        V_semantic_knn=narrow.between,
        c_1_semdlm_plus=wide.error_per_entropy,
        c_1_semantic_knn=narrow.error_per_entropy,
    )
    yield _claim(
        "Appendix B.6.2, D(Q)",
        "D is large for uniform noise, small for semantic noise, and smallest for masks",
        FAILS,
        "every kernel that forgets goes from 0 to the entropy of the text; masks do it linearly, D = H^2 / 12. Only "
        "semantic noise without jumps, which does not forget, has a small D",
        **spread,
    )


def basins() -> Iterator[Claim]:
    """Equations 111 and 113."""
    found = toys.one_sided_cluster()
    yield _claim(
        "Eq. 111",
        "of a semantic kernel a_in > a_out, and then noise amplifies the odds of a cluster by a_in / a_out or more",
        CONDITIONAL,
        "the inequality always holds. But a_in > a_out needs neighbors that are mutual: on a ring where the next token "
        "is the only neighbor the bound promises less than nothing",
        guaranteed=found.guaranteed[0],
        gained=found.gained[0],
    )
    yield _claim(
        "Eq. 113",
        "jumps cap the ratio of likelihoods at q_t(j | k_in) / (beta_t nu_t(j))",
        HOLDS,
        "the cap contains alpha_t / (beta_t nu_t(j)) where k_in is j, which grows with the vocabulary",
        gained=found.gained[0],
        cap=found.cap[0],
    )


def claims() -> Iterator[Claim]:
    """All, each when its numbers are known."""
    for part in (errors, difficulty, propagation, variance, basins):
        yield from part()
