"""MDLM's own PyTorch code, run from a checkout of it: a training step and its sampler, for benchmarks/mdlm.py.

Nothing of it is copied here. Its modules import packages that a step does not need (Lightning, Hydra, Mamba, …): those
that are not installed are replaced by empty ones. Its attention needs flash-attn; here it gets PyTorch's
`scaled_dot_product_attention`, which on a GPU is the same kind of kernel.
"""

import importlib
import importlib.util
import pathlib
import sys
import types

import torch
import torch.nn.functional as F

from semdlm_jax.errors import UserError


def rotate_qkv(qkv_BxLx3xHxd, cos_Lxh, sin_Lxh):
    """What flash_attn.layers.rotary does: queries and keys turned, by halves; values as they are."""
    cos, sin = cos_Lxh[:, None, None], sin_Lxh[:, None, None]
    a, b = qkv_BxLx3xHxd[:, :, :2].chunk(2, dim=-1)
    turned = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    return torch.cat([turned, qkv_BxLx3xHxd[:, :, 2:]], dim=2)


def attend(qkv_Nx3xHxd, cu_seqlens, length, dropout_p, causal=False):
    """What flash_attn_varlen_qkvpacked_func does for rows of equal length; returns [N, H, d]."""
    q, k, v = qkv_Nx3xHxd.unflatten(0, (-1, length)).permute(2, 0, 3, 1, 4)
    out_BxHxLxd = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=causal)
    return out_BxHxLxd.transpose(1, 2).flatten(0, 1)


class _LightningModule(torch.nn.Module):
    """What the diffusion class uses of Lightning's."""

    @property
    def device(self):
        return next(self.parameters()).device


def _empty(name, **attributes):
    module = types.ModuleType(name)
    module.__path__ = []
    module.__dict__.update(attributes)
    return module


def _stand_ins():
    """{name: module} of what the code imports and a step does not need, or needs in another way."""
    rotary = _empty("flash_attn.layers.rotary", apply_rotary_emb_qkv_=rotate_qkv)
    layers = _empty("flash_attn.layers", rotary=rotary)
    interface = _empty("flash_attn.flash_attn_interface", flash_attn_varlen_qkvpacked_func=attend)
    metrics = types.SimpleNamespace(MeanMetric=object)
    stand_ins = {
        "flash_attn": _empty("flash_attn", layers=layers, flash_attn_interface=interface),
        "flash_attn.layers": layers,
        "flash_attn.layers.rotary": rotary,
        "lightning": _empty("lightning", LightningModule=_LightningModule),
        "torchmetrics": _empty("torchmetrics", aggregation=metrics),
        "transformers": _empty("transformers", PreTrainedTokenizer=object),
        "hydra": _empty("hydra"),
        "hydra.utils": _empty("hydra.utils"),
        "omegaconf": _empty("omegaconf"),
        "timm": _empty("timm"),
        "timm.scheduler": _empty("timm.scheduler", CosineLRScheduler=type("Scheduler", (), {})),
        "fsspec": _empty("fsspec"),
        "dataloader": _empty("dataloader"),
        "models.dimamba": _empty("models.dimamba"),
        "models.autoregressive": _empty("models.autoregressive"),
    }
    if importlib.util.find_spec("huggingface_hub") is None:
        stand_ins["huggingface_hub"] = _empty("huggingface_hub", PyTorchModelHubMixin=object)
    return stand_ins


def load(folder):
    """Its modules (diffusion, models, noise_schedule).

    Raises:
        UserError: there is no checkout.
    """
    folder = pathlib.Path(folder)
    if not (folder / "diffusion.py").exists():
        raise UserError(f"--checkout={folder}: no diffusion.py there: clone github.com/kuleshov-group/mdlm to it")
    sys.modules.update(_stand_ins())
    sys.path.insert(0, str(folder))
    return [importlib.import_module(name) for name in ("diffusion", "models", "noise_schedule")]


class Peer:
    """Its model of one size, with the settings of its configuration for LM1B.

    Args:
        folder: of the checkout.
        denoiser: ours, for the sizes.
        shape: (rows, positions).
        optimizer: the section of our configuration.
        steps: of its sampler.
        compiled: whether the network goes through torch.compile.
    """

    def __init__(self, folder, denoiser, shape, optimizer, steps, compiled=False):
        diffusion, models, noise_schedule = load(folder)
        name = types.SimpleNamespace
        size = name(
            hidden_size=denoiser.width,
            cond_dim=denoiser.condition_width,
            length=shape[1],
            n_blocks=denoiser.layers,
            n_heads=denoiser.heads,
            scale_by_sigma=True,
            dropout=denoiser.dropout,
        )
        config = name(model=size, loader=name(eval_batch_size=shape[0]), noise=name(type="loglinear"))
        config.sampling = name(steps=steps, noise_removal=True)
        model = diffusion.Diffusion.__new__(diffusion.Diffusion)
        torch.nn.Module.__init__(model)
        vocab = denoiser.vocab_size
        settings = {
            "config": config,
            "vocab_size": vocab,
            "mask_index": vocab - 1,
            "parameterization": "subs",
            "T": 0,
            "time_conditioning": False,
            "change_of_variables": False,
            "importance_sampling": False,
            "antithetic_sampling": True,
            "sampling_eps": 1e-3,
            "neg_infinity": -1000000.0,
            "sampler": "ddpm_cache",
            "backbone": models.dit.DIT(config, vocab),
            "noise": noise_schedule.get_noise(config),
        }
        for key, value in settings.items():
            setattr(model, key, value)
        self.model, self.options = model, optimizer
        self.tokens = torch.randint(0, vocab - 1, shape)
        self.mask = torch.ones(shape, dtype=torch.int64)
        parameters = list(model.parameters())
        self.adamw = torch.optim.AdamW(
            parameters,
            lr=optimizer.learning_rate,
            betas=(optimizer.b1, optimizer.b2),
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
        )
        self.ema = models.ema.ExponentialMovingAverage(parameters, decay=optimizer.ema_decay)
        if compiled:
            model.backbone.compile()

    @property
    def parameters(self):
        return sum(p.numel() for p in self.model.parameters())

    def train(self):
        """One step, as its trainer takes it: bfloat16 by autocast on a GPU, clipping, AdamW and the average."""
        model = self.model.train()
        on_gpu = model.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
            loss = model._loss(self.tokens, self.mask).loss
        self.adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.options.clip_norm)
        self.adamw.step()
        self.ema.update(model.parameters())
        return loss.item()

    def sample(self):
        """A batch of text: int [B, L]."""
        with torch.no_grad():
            text = self.model.eval()._sample()
        return text.cpu().numpy()
