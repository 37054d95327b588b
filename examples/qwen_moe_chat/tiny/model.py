"""A small Qwen3.5-MoE text model for training on a CPU (float32, whole sequences that start from an empty state)."""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Config:
    """Names and meaning follow config.json of the architecture."""
    vocab_size: int = 1029
    hidden_size: int = 128
    num_hidden_layers: int = 4
    full_attention_interval: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    partial_rotary_factor: float = 0.25
    rope_theta: float = 10000.0
    linear_num_key_heads: int = 2
    linear_num_value_heads: int = 4
    linear_key_head_dim: int = 64
    linear_value_head_dim: int = 64
    linear_conv_kernel_dim: int = 4
    num_experts: int = 16
    num_experts_per_tok: int = 4
    moe_intermediate_size: int = 128
    shared_expert_intermediate_size: int = 128
    rms_norm_eps: float = 1e-6

    def is_full(self, i: int) -> bool:
        """Layer i is gated attention, otherwise gated DeltaNet."""
        return (i + 1) % self.full_attention_interval == 0

    @staticmethod
    def chunk(T: int) -> int:
        """Chunk length of the delta rule for a padded length T."""
        return T if T <= 64 else 32

    @staticmethod
    def padded(T: int) -> int:
        """Smallest length that the model accepts: a multiple of 16, above 64 of 32."""
        n = 16 if T <= 64 else 32
        return -(-T // n) * n

    def dict(self) -> dict:
        return asdict(self)


def rms(x: Tensor, w: Tensor, eps: float = 1e-6) -> Tensor:
    """Zero-centred RMS norm."""
    return F.rms_norm(x, w.shape, 1.0 + w, eps)


def rms_gated(o: Tensor, z: Tensor, w: Tensor, eps: float = 1e-6) -> Tensor:
    """Norm with a plain weight, then the silu gate."""
    return F.rms_norm(o, w.shape, w, eps) * F.silu(z)


def l2(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


class Conv(torch.autograd.Function):
    """Causal depthwise convolution over [B, T, C] with taps w [C, K]; the last tap meets the current token."""

    @staticmethod
    def forward(ctx, u: Tensor, w: Tensor) -> Tensor:
        T, K = u.shape[1], w.shape[1]
        ctx.save_for_backward(u, w)
        y = u * w[:, K - 1]
        for s in range(1, K):
            y[:, s:].addcmul_(u[:, :T - s], w[:, K - 1 - s])
        return y

    @staticmethod
    def backward(ctx, g: Tensor):
        u, w = ctx.saved_tensors
        T, K = u.shape[1], w.shape[1]
        gu, gw = g * w[:, K - 1], torch.empty_like(w)
        gw[:, K - 1] = (g * u).sum((0, 1))
        for s in range(1, K):
            gu[:, :T - s].addcmul_(g[:, s:], w[:, K - 1 - s])
            gw[:, K - 1 - s] = (g[:, s:] * u[:, :T - s]).sum((0, 1))
        return gu, gw


def param(*shape: int, std: float | None = None) -> nn.Parameter:
    """Normal start values, by default with 1/sqrt(fan-in)."""
    return nn.Parameter(torch.randn(*shape) * (shape[-1] ** -0.5 if std is None else std))


class UnitLowerInverse(torch.autograd.Function):
    """(I + N)^-1 for strictly lower triangular N [..., n, n] by the nilpotent product."""

    @staticmethod
    def forward(ctx, N: Tensor) -> Tensor:
        n = N.shape[-1]
        eye = torch.eye(n)
        inv, p, k = eye - N, N, 1
        while 2 * k < n:
            p = p @ p
            inv = inv + inv @ p
            k *= 2
        ctx.save_for_backward(inv)
        return inv

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        t = ctx.saved_tensors[0].transpose(-1, -2)
        return -(t @ grad @ t)


class Experts(torch.autograd.Function):
    """Sum of the chosen experts: rows are sorted by expert, one matrix product for each expert and projection.

    Products are in the type that `kind` gives, everything else in float32.
    """

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor, kind: torch.dtype) -> Tensor:
        (count, width), picks, (experts, double, _) = x.shape, chosen.shape[1], gate_up.shape
        flat = chosen.reshape(-1)
        order = torch.argsort(flat)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(count * picks)
        ends = torch.bincount(flat, minlength=experts).cumsum(0).tolist()
        spans = list(zip([0] + ends[:-1], ends))
        token = order // picks
        x, gate_up, down = x.to(kind), gate_up.to(kind), down.to(kind)
        rows, weight = x.index_select(0, token), w.reshape(-1)[order][:, None]
        hidden, y = rows.new_empty(count * picks, double), rows.new_empty(count * picks, width)
        for e, (a, b) in enumerate(spans):
            torch.mm(rows[a:b], gate_up[e].T, out=hidden[a:b])
        hidden = hidden.float()
        active = F.silu(hidden[:, :double // 2]) * hidden[:, double // 2:]
        weighted = (active * weight).to(kind)
        for e, (a, b) in enumerate(spans):
            torch.mm(weighted[a:b], down[e].T, out=y[a:b])
        ctx.save_for_backward(rows, weight, hidden, active, weighted, gate_up, down, token, inverse, order)
        ctx.spans, ctx.kind = spans, kind
        return y.index_select(0, inverse).view(count, picks, width).float().sum(1)

    @staticmethod
    def backward(ctx, gy: Tensor):
        rows, weight, hidden, active, weighted, gate_up, down, token, inverse, order = ctx.saved_tensors
        total, count, inner = rows.shape[0], gy.shape[0], down.shape[2]
        g_rows = gy.to(ctx.kind).index_select(0, token)
        g_active, g_x = torch.empty_like(weighted), torch.empty_like(rows)
        g_gate_up, g_down = torch.empty_like(gate_up), torch.empty_like(down)
        for e, (a, b) in enumerate(ctx.spans):
            torch.mm(g_rows[a:b], down[e], out=g_active[a:b])
            torch.mm(g_rows[a:b].T, weighted[a:b], out=g_down[e])
        g_active = g_active.float()
        g_weight = torch.empty(total)
        g_weight[order] = (g_active * active).sum(-1)
        g_active = g_active * weight
        gate, linear = hidden[:, :inner], hidden[:, inner:]
        s = torch.sigmoid(gate)
        g_hidden = torch.cat([g_active * linear * s * (1.0 + gate * (1.0 - s)), g_active * gate * s], dim=1).to(ctx.kind)
        for e, (a, b) in enumerate(ctx.spans):
            torch.mm(g_hidden[a:b], gate_up[e], out=g_x[a:b])
            torch.mm(g_hidden[a:b].T, rows[a:b], out=g_gate_up[e])
        g_x = g_x.index_select(0, inverse).view(count, total // count, -1).float().sum(1)
        return g_x, g_weight.view(count, total // count), None, g_gate_up.float(), g_down.float(), None


class HalfLinear(torch.autograd.Function):
    """x W^T with bfloat16 products, forward and backward."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        rows, w = x.reshape(-1, x.shape[-1]).bfloat16(), w.bfloat16()
        ctx.save_for_backward(rows, w)
        return (rows @ w.T).float().view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, g: Tensor):
        rows, w = ctx.saved_tensors
        g_rows = g.reshape(-1, g.shape[-1]).bfloat16()
        return (g_rows @ w).float().view(*g.shape[:-1], -1), (g_rows.T @ rows).float()


def linear(x: Tensor, w: Tensor) -> Tensor:
    """x W^T: bfloat16 products while training, which takes half the time, float32 otherwise."""
    return HalfLinear.apply(x, w) if torch.is_grad_enabled() else x @ w.T


class Moe(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        H, I, S, E = c.hidden_size, c.moe_intermediate_size, c.shared_expert_intermediate_size, c.num_experts
        out = (2 * c.num_hidden_layers) ** -0.5
        self.k = c.num_experts_per_tok
        self.gate = param(E, H, std=0.02)
        self.gate_up = param(E, 2 * I, H)
        self.down = param(E, H, I, std=out * I ** -0.5)
        self.shared_gate_up = param(2 * S, H)
        self.shared_down = param(H, S, std=out * S ** -0.5)
        self.shared_gate = param(1, H, std=0.02)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, H] normed; returns the output and the load-balancing loss."""
        p = torch.softmax(x @ self.gate.T, dim=-1)
        w, idx = p.topk(self.k, dim=-1)
        w = w / w.sum(-1, keepdim=True)
        E = p.shape[1]
        share = torch.bincount(idx.reshape(-1), minlength=E) / idx.numel()
        aux = E * (share * p.mean(0)).sum()
        y = Experts.apply(x, w, idx, self.gate_up, self.down, torch.bfloat16 if torch.is_grad_enabled() else torch.float32)
        g, u = linear(x, self.shared_gate_up).chunk(2, dim=-1)
        s = linear(F.silu(g) * u, self.shared_down)
        return y + torch.sigmoid(x @ self.shared_gate.T) * s, aux


class Gdn(nn.Module):
    """Gated DeltaNet, chunked form."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        H, nv = c.hidden_size, c.linear_num_value_heads
        self.qk, self.vd = c.linear_num_key_heads * c.linear_key_head_dim, nv * c.linear_value_head_dim
        conv = 2 * self.qk + self.vd
        self.sizes = [conv, self.vd, nv, nv]
        self.in_proj = param(sum(self.sizes), H)
        self.conv = param(conv, c.linear_conv_kernel_dim)
        self.A_log = nn.Parameter(torch.empty(nv).uniform_(1, 16).log())
        dt = torch.exp(torch.empty(nv).uniform_(math.log(1e-3), math.log(1e-1)))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.norm = nn.Parameter(torch.ones(c.linear_value_head_dim))
        self.out_proj = param(H, self.vd, std=(2 * c.num_hidden_layers * self.vd) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        c, (B, T, _) = self.config, x.shape
        nk, nv, dk, dv, n = (c.linear_num_key_heads, c.linear_num_value_heads, c.linear_key_head_dim,
                             c.linear_value_head_dim, c.chunk(T))
        u, z, b, a = linear(x, self.in_proj).split(self.sizes, dim=-1)
        q, k, v = F.silu(Conv.apply(u, self.conv)).split([self.qk, self.qk, self.vd], dim=-1)
        parts = lambda y, h, d: y.reshape(B, T // n, n, h, d).transpose(2, 3)       # [B, chunks, heads, n, d]
        q = l2(parts(q, nk, dk)) * dk ** -0.5
        k = l2(parts(k, nk, dk))
        v = parts(v, nv, dv)
        rep = lambda y: y.repeat_interleave(nv // nk, dim=2)
        kk, qk = rep(k @ k.transpose(-1, -2)), rep(q @ k.transpose(-1, -2))
        beta = parts(torch.sigmoid(b), nv, 1)
        g = parts(-torch.exp(self.A_log) * F.softplus(a + self.dt_bias), nv, 1)
        G = g.cumsum(-2)
        D = (G - G.transpose(-1, -2)).masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), float("-inf")).exp()
        inv = UnitLowerInverse.apply((beta * kk * D).tril(-1))
        bv, att = beta * v, qk * D
        if T == n:
            o = att @ (inv @ bv)
        else:
            q, k, eG = rep(q), rep(k), G.exp()
            q, bk, kd = eG * q, beta * eG * k, ((G[..., -1:, :] - G).exp() * k).transpose(-1, -2)
            S, rows = x.new_zeros(B, nv, dk, dv), []
            for i in range(T // n):
                d = inv[:, i] @ (bv[:, i] - bk[:, i] @ S)
                rows.append(q[:, i] @ S + att[:, i] @ d)
                S = eG[:, i, :, -1:] * S + kd[:, i] @ d
            o = torch.stack(rows, dim=1)
        o = rms_gated(o.transpose(2, 3).reshape(B, T, nv, dv), z.reshape(B, T, nv, dv), self.norm, c.rms_norm_eps)
        return linear(o.reshape(B, T, nv * dv), self.out_proj)


class Attention(nn.Module):
    """Causal attention with an output gate and partial rotary embedding."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        H, nq, nkv, hd = c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.sizes = [nq * 2 * hd, nkv * hd, nkv * hd]
        self.qkv = param(sum(self.sizes), H)
        self.q_norm, self.k_norm = nn.Parameter(torch.zeros(hd)), nn.Parameter(torch.zeros(hd))
        self.o_proj = param(H, nq * hd, std=(2 * c.num_hidden_layers * nq * hd) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        c, (B, T, _) = self.config, x.shape
        nq, nkv, hd, rot = c.num_attention_heads, c.num_key_value_heads, c.head_dim, int(c.head_dim * c.partial_rotary_factor)
        q, k, v = linear(x, self.qkv).split(self.sizes, dim=-1)
        q, gate = q.view(B, T, nq, 2 * hd).split(hd, dim=-1)
        freq = c.rope_theta ** (-torch.arange(0, rot, 2, dtype=torch.float64) / rot)
        angle = torch.arange(T, dtype=torch.float64)[:, None] * freq
        cos, sin = angle.cos().float()[:, None], angle.sin().float()[:, None]

        def rope(y: Tensor) -> Tensor:
            a, b, rest = y.split([rot // 2, rot // 2, hd - rot], dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1).transpose(1, 2)

        q = rope(rms(q, self.q_norm, c.rms_norm_eps))
        k = rope(rms(k.view(B, T, nkv, hd), self.k_norm, c.rms_norm_eps))
        v = v.view(B, T, nkv, hd).transpose(1, 2)
        r = nq // nkv
        o = F.scaled_dot_product_attention(q, k.repeat_interleave(r, 1), v.repeat_interleave(r, 1), is_causal=True)
        o = o.transpose(1, 2) * torch.sigmoid(gate)
        return linear(o.reshape(B, T, nq * hd), self.o_proj)


class Block(nn.Module):
    def __init__(self, c: Config, full: bool) -> None:
        super().__init__()
        self.eps = c.rms_norm_eps
        self.norm1, self.norm2 = nn.Parameter(torch.zeros(c.hidden_size)), nn.Parameter(torch.zeros(c.hidden_size))
        self.mixer = Attention(c) if full else Gdn(c)
        self.moe = Moe(c)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x + self.mixer(rms(x, self.norm1, self.eps))
        y, aux = self.moe(rms(x, self.norm2, self.eps).view(-1, x.shape[-1]))
        return x + y.view_as(x), aux


class Model(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        self.embed = param(c.vocab_size, c.hidden_size, std=0.1)
        self.blocks = nn.ModuleList(Block(c, c.is_full(i)) for i in range(c.num_hidden_layers))
        self.norm = nn.Parameter(torch.zeros(c.hidden_size))
        self.head = param(c.vocab_size, c.hidden_size, std=0.02)

    def forward(self, ids: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """ids [B, T], T as Config.padded gives it; logits of all positions or of the rows `keep` (flat); mean balancing loss."""
        x, total = F.embedding(ids, self.embed), torch.zeros(())
        for block in self.blocks:
            x, aux = block(x)
            total = total + aux
        x = x.view(-1, x.shape[-1])
        x = rms(x if keep is None else x.index_select(0, keep), self.norm, self.config.rms_norm_eps)
        return x @ self.head.T, total / len(self.blocks)
