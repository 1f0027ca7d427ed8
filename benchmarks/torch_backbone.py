"""The backbone of semdlm_jax/network in plain PyTorch, and a training step: the reference that JAX is compared with.

Shape suffixes as in that folder: B batch, L positions, D width, C condition width, H heads, V vocabulary.
"""

import math

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def rotate(x_BxHxLxd, base=10000.0):
    half = x_BxHxLxd.shape[-1] // 2
    angles_Lxh = torch.arange(x_BxHxLxd.shape[-2])[:, None] * base ** (-torch.arange(half) / half)
    cos, sin = angles_Lxh.cos(), angles_Lxh.sin()
    a, b = x_BxHxLxd.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def modulate(x_BxLxD, shift_BxD, scale_BxD):
    return F.layer_norm(x_BxLxD, x_BxLxD.shape[-1:], eps=1e-6) * (1 + scale_BxD[:, None]) + shift_BxD[:, None]


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BxLxD):
        qkv = self.qkv(x_BxLxD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=-1)
        y_BxHxLxd = F.scaled_dot_product_attention(rotate(q), rotate(k), v)
        return self.out(y_BxHxLxd.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, width, expansion):
        super().__init__()
        self.up = nn.Linear(width, expansion * width, bias=False)
        self.down = nn.Linear(expansion * width, width, bias=False)

    def forward(self, x_BxLxD):
        return self.down(F.gelu(self.up(x_BxLxD), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width, heads, expansion, condition_width, dropout):
        super().__init__()
        self.modulation = nn.Linear(condition_width, 6 * width)
        self.attention = Attention(width, heads)
        self.mlp = MLP(width, expansion)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BxLxD, condition_BxC):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition_BxC).chunk(6, dim=-1)
        x_BxLxD = x_BxLxD + self.drop(self.attention(modulate(x_BxLxD, shift_a, scale_a)) * (1 + gate_a)[:, None])
        return x_BxLxD + self.drop(self.mlp(modulate(x_BxLxD, shift_m, scale_m)) * (1 + gate_m)[:, None])


class TimeEmbedding(nn.Module):
    def __init__(self, width, half=64):
        super().__init__()
        self.hidden = nn.Linear(2 * half, width)
        self.out = nn.Linear(width, width)
        frequencies = 1000.0 * torch.exp(-math.log(10000.0) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t_B):
        angles = t_B[:, None] * self.frequencies
        return F.silu(self.out(F.silu(self.hidden(torch.cat([angles.cos(), angles.sin()], dim=-1)))))


class TorchBackbone(nn.Module):
    """Noisy tokens [B, L] and times [B] to logits [B, L, V], float32: the architecture of a Denoiser."""

    def __init__(self, denoiser):
        super().__init__()
        width, condition_width = denoiser.width, denoiser.condition_width
        self.time_conditioning = denoiser.time_conditioning
        self.embed = nn.Embedding(denoiser.vocab_size, width)
        self.time_embedding = TimeEmbedding(condition_width)
        self.blocks = nn.ModuleList(
            Block(width, denoiser.heads, denoiser.expansion, condition_width, denoiser.dropout)
            for _ in range(denoiser.layers)
        )
        self.final_modulation = nn.Linear(condition_width, 2 * width)
        self.output = None if denoiser.tied_output else nn.Embedding(denoiser.vocab_size, width)
        self.output_bias = nn.Parameter(torch.zeros(denoiser.vocab_size))

    def forward(self, tokens_BxL, t_B):
        condition_BxC = self.time_embedding(t_B if self.time_conditioning else torch.zeros_like(t_B))
        x_BxLxD = self.embed(tokens_BxL) * 50.0
        for block in self.blocks:
            x_BxLxD = block(x_BxLxD, condition_BxC)
        x_BxLxD = modulate(x_BxLxD, *self.final_modulation(condition_BxC).chunk(2, dim=-1))
        return F.linear(x_BxLxD, (self.output or self.embed).weight, self.output_bias)


def copy_parameters(params, module):
    """Copies a Denoiser's parameter tree into a TorchBackbone. RuntimeError unless the two have the same parameters."""
    state = {}
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        *parents, leaf = (entry.key for entry in path)
        value = torch.from_numpy(np.array(value))
        value = value.mT if leaf == "kernel" else value
        leaf = "weight" if leaf in ("kernel", "embedding") else leaf
        if parents[:1] == ["blocks"]:  # one stack of all layers, [N, ...]
            for layer, slice_ in enumerate(value):
                state[".".join(["blocks", str(layer), *parents[1:], leaf])] = slice_
        else:
            state[".".join([*parents, leaf])] = value
    module.load_state_dict(state)


def make_torch_step(module, tokens_BxL, dtype, *, learning_rate, b1, b2, eps, weight_decay, clip_norm, ema_decay):
    """A function () -> loss: one AdamW step on uniformly corrupted tokens (numpy int [B, L]).

    It runs on the device of the module, which must be PyTorch's default device. dtype: bfloat16 uses autocast.
    """
    x0 = torch.from_numpy(np.array(tokens_BxL, np.int64)).to(module.output_bias.device)
    vocab_size = module.embed.num_embeddings
    optimizer = torch.optim.AdamW(
        module.parameters(), learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay, fused=True
    )
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(ema_decay)) if ema_decay else None
    module.train()

    def step():
        t = (torch.arange(len(x0)) + torch.rand(len(x0))) / len(x0)
        jumps = torch.rand(x0.shape) < t[:, None]
        xt = torch.where(jumps, torch.randint(vocab_size, x0.shape), x0)
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = F.cross_entropy(module(xt, t).flatten(0, 1), x0.flatten())
        optimizer.zero_grad()
        loss.backward()
        if clip_norm:
            nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
        optimizer.step()
        if average:
            average.update_parameters(module)
        return loss.item()

    return step
