"""The systems of the paper's tables, by name: --config=lm1b:mdlm, and --config=lm1b:list for this list.

A system is a set of changes to the configuration of a data set: kernel, loss, parameterization, time conditioning and
optimizer, as its authors have them where they say so. Length, model size, batch and number of steps stay those of the
data set, so that systems are compared under equal budgets. A configuration far from the authors' scale keeps its own
optimizer too (`apply(..., optimizer=False)`). All systems are scored by the same bound over the same times.
"""

from typing import NamedTuple

from semdlm_jax.errors import choose


class System(NamedTuple):
    """about: one line. changes: {section: {key: value}}. optimizer: {key: value} of the section optimizer."""

    about: str
    changes: dict
    optimizer: dict = {}


# MDLM's and SEDD's optimizer, which BD3-LM and the paper take over: AdamW 3e-4, 2,500 steps of warm-up, then constant.
MDLM_ADAMW = {
    "name": "adamw",
    "learning_rate": 3e-4,
    "schedule": "constant",
    "warmup_steps": 2500,
    "b1": 0.9,
    "b2": 0.999,
    "eps": 1e-8,
    "weight_decay": 0.0,
    "clip_norm": 1.0,
    "ema_decay": 0.9999,
}
# D3PM (google-research, text configurations): 2e-4, 5,000 steps of warm-up, gradients clipped at 0.25.
D3PM_ADAM = {**MDLM_ADAMW, "learning_rate": 2e-4, "warmup_steps": 5000, "clip_norm": 0.25}
# GIDD (dvruette/gidd): 5e-4, betas 0.9 and 0.99, eps 1e-9, decay 0.02 ("GIDD+"), 10,000 steps of warm-up, a cosine to a
# tenth of the peak, no average.
GIDD_ADAM = {
    **MDLM_ADAMW,
    "learning_rate": 5e-4,
    "schedule": "cosine",
    "warmup_steps": 10_000,
    "b2": 0.99,
    "eps": 1e-9,
    "weight_decay": 0.02,
    "final_fraction": 0.1,
    "ema_decay": 0.0,
}


# K. Jiang et al., 2026: Eq. 3 with the change-aware weights of Eq. 120. The paper gives no values of these weights, and
# uses the network's softmax as the posterior. benchmarks/results/bakeoff.md has the evidence for the choices made here.
def _semantic(kernel):
    return {
        "kernel": {"name": kernel},
        "objective": {"name": "denoising", "parameterization": "bayes", "lambda_changed": 1.0, "lambda_same": 1.0},
        "network": {"time_conditioning": True},
    }


# J. Austin et al., 2021: T = 1000, beta_t = 1 / (T - t), which is the linear schedule; the network sees t. Their p(x_s
# | x_t) is proportional to q(x_t | x_s) q_s(x_s | x_theta), where x_theta is the network's softmax: that is `bayes`.
# t_min is below 1 / T, so that the smallest of the thousand times is drawn too.
def _d3pm(kernel, ce_weight):
    return {
        "kernel": {"name": kernel, "schedule": {"name": "linear"}},
        "objective": {
            "name": "d3pm",
            "parameterization": "bayes",
            "timesteps": 1000,
            "ce_weight": ce_weight,
            "t_min": 1e-6,
            "t_max": 1.0,
        },
        "network": {"time_conditioning": True},
    }


# A. Lou et al., 2024: score entropy; the network sees the noise level; times from 1e-3 to 1.
def _sedd(kernel, schedule):
    return {
        "kernel": {"name": kernel, "schedule": schedule},
        "objective": {"name": "score_entropy", "parameterization": "score", "t_min": 1e-3, "t_max": 1.0},
        "network": {"time_conditioning": True},
    }


# Nested partitions: semantic noise with a tight bound (kernels/nested.py), trained as the systems with neighbors are.
def _nested(**kernel):
    changes = _semantic("nested")
    return {**changes, "kernel": {"name": "nested", "resampled": -1, "path": "direct", "powers": "", **kernel}}


# C. Zhou et al., 2025 (HDLM), and its deep form (TDLM): gamma = 1 is the rates gamma / (1 - t) and 1 / (1 - t), and in
# training weights of cross-entropies are clipped to [0, 2]. The rates of the deep form are ours: D / (1 - t) to 1 /
# (1 - t), where levels are binomial. With 1 / (1 - t) for all, the error of the bound was 4 times that of HDLM.
def _symbols(blocks, speeds):
    kernel = {"name": "nested", "blocks": blocks, "resampled": 0, "path": "sequential", "speeds": speeds}
    return {
        "kernel": {**kernel, "schedule": {"name": "linear"}},
        "objective": {"name": "nelbo", "parameterization": "bayes", "max_weight": 2.0},
        "network": {"time_conditioning": True},
    }


SYSTEMS = {
    "semdlm_plus": System(
        "SemDLM+: drift to growing neighborhoods and jump anywhere (Eq. 22)", _semantic("semdlm_plus"), MDLM_ADAMW
    ),
    "semdlm_knn": System("SemDLM: drift to neighbors alone (Eq. 7)", _semantic("semantic_knn"), MDLM_ADAMW),
    "semdlm_softmax": System(
        "SemDLM: softmax over all similarities (Eq. 8)", _semantic("semantic_softmax"), MDLM_ADAMW
    ),
    "semantic_mask": System("drift to neighbors, with masks for jumps", _semantic("semantic_mask"), MDLM_ADAMW),
    "semdlm_nested": System(
        "SemDLM+ with blocks for neighborhoods: the weights of Eq. 22, a tight bound", _nested(blocks="64"), MDLM_ADAMW
    ),
    "semdlm_nested_deep": System("the same with blocks that grow with time", _nested(blocks="256,64,16"), MDLM_ADAMW),
    "semdlm_nested_mask": System("the same with masks for jumps", _nested(blocks="64", resampled=1), MDLM_ADAMW),
    "hdlm": System("HDLM: tokens become symbols of blocks, then masks", _symbols("64", "1,1"), MDLM_ADAMW),
    "tdlm": System("TDLM: the same through three levels of blocks", _symbols("256,64,16", "4,3,2,1"), MDLM_ADAMW),
    # google-research d3pm/text: hybrid_lambda 0 in the uniform configuration, 0.01 in the mask's.
    "d3pm_uniform": System("D3PM, uniform noise, 1000 steps", _d3pm("uniform", 0.0), D3PM_ADAM),
    "d3pm_absorbing": System("D3PM, masks, 1000 steps", _d3pm("absorbing", 0.01), D3PM_ADAM),
    # kuleshov-group/mdlm: log-linear noise (eps 1e-3), SUBS, no time conditioning, times from 1e-3 to 1.
    "mdlm": System(
        "MDLM: masks, the continuous bound, no time conditioning",
        {
            "kernel": {"name": "absorbing", "schedule": {"name": "loglinear", "eps": 1e-3}},
            "objective": {"name": "nelbo", "parameterization": "bayes", "t_min": 1e-3, "t_max": 1.0},
            "network": {"time_conditioning": False},
        },
        MDLM_ADAMW,
    ),
    # louaaron/Score-Entropy-Discrete-Diffusion: geometric noise from 1e-4 to 20 for uniform, log-linear for masks.
    "sedd_uniform": System(
        "SEDD: score entropy, uniform noise",
        _sedd("uniform", {"name": "geometric", "sigma_min": 1e-4, "sigma_max": 20.0}),
        MDLM_ADAMW,
    ),
    "sedd_absorbing": System(
        "SEDD: score entropy, masks", _sedd("absorbing", {"name": "loglinear", "eps": 1e-3}), MDLM_ADAMW
    ),
    # dvruette/gidd: masks with uniform noise, p_u = 0.1, dynamic weights, times from 1e-4 to 1 - 1e-4.
    "gidd": System(
        "GIDD: masks and uniform noise, dynamic weights",
        {
            "kernel": {"name": "hybrid", "uniform_share": 0.1, "hybrid_gamma": 1.0, "schedule": {"name": "linear"}},
            "objective": {
                "name": "gidd",
                "parameterization": "bayes",
                "gidd_weights": "dynamic",
                "t_min": 1e-4,
                "t_max": 1.0 - 1e-4,
            },
            "network": {"time_conditioning": True, "dropout": 0.0},
        },
        GIDD_ADAM,
    ),
    # kuleshov-group/discrete-diffusion-guidance: alpha = 1 - t, the plug-in x_theta, time conditioning.
    "udlm": System(
        "UDLM: uniform noise, the continuous bound",
        {
            "kernel": {"name": "uniform", "schedule": {"name": "linear"}},
            "objective": {"name": "nelbo", "parameterization": "bayes", "t_min": 1e-3},
            "network": {"time_conditioning": True},
        },
        MDLM_ADAMW,
    ),
    # The marginal kernel of the paper's section 2, trained as UDLM is.
    "unigram": System(
        "marginal noise, the continuous bound",
        {
            "kernel": {"name": "unigram", "prior_exponent": 1.0, "schedule": {"name": "linear"}},
            "objective": {"name": "nelbo", "parameterization": "bayes", "t_min": 1e-3},
            "network": {"time_conditioning": True},
        },
        MDLM_ADAMW,
    ),
    # The reference of MDLM's tables: the same Transformer with a causal mask, the same optimizer.
    "ar": System(
        "the autoregressive reference, scored exactly",
        {
            "objective": {"name": "autoregressive"},
            "network": {"causal": True, "time_conditioning": False},
        },
        MDLM_ADAMW,
    ),
}


def apply(config, name, *, optimizer=True):
    """Changes a configuration into that of a system, in place, and returns it.

    Args:
        config: the configuration of a data set.
        name: of SYSTEMS. None changes nothing; 'list' prints the names and exits.
        optimizer: take the optimizer of the authors too.

    Raises:
        UserError: an unknown name.
    """
    if name is None:
        return config
    if name == "list":
        print("\n".join(f"{name:<18} {system.about}" for name, system in SYSTEMS.items()))
        raise SystemExit(0)
    system = choose("system", name, SYSTEMS)
    for section, values in system.changes.items():
        config[section].update(values)
    if optimizer:
        config.optimizer.update(system.optimizer)
    config.warmup.steps = 0
    return config
