# ruff: noqa: D401 (the docstring names a style of code; its classes are as public code writes them)
# mypy: disable-error-code="no-any-return,arg-type,operator,assignment,attr-defined,union-attr,index,no-untyped-call"
"""Modules without fault that look like faults: gates at 0, frozen parts, experts without work, straight-through, ..."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from tests.audit.zoo import healthy
from tests.audit.zoo.faulty import CrossAttention, Gated, Made, Net, crossed, pictures, plain, rows, words


def images() -> Tensor:
    """Return 3 x 3 x 10 x 14 numbers."""
    return torch.randn(3, 3, 10, 14, generator=torch.Generator().manual_seed(2))


# ---- gates that start at 0 ----


@healthy
def rezero() -> Made:
    """ReZero: x + alpha f(x), alpha 0."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alpha = nn.Parameter(torch.zeros(1))
            self.f = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 12))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.alpha * self.f(x)

    return plain(nn.Sequential(Block(), Block(), Block()))


@healthy
def flamingo() -> Made:
    """Flamingo: tanh gates at 0 on attention and on the feed-forward."""

    class Gated(CrossAttention):
        def build(self) -> None:
            self.attn_gate = nn.Parameter(torch.tensor([0.0]))
            self.ff_gate = nn.Parameter(torch.tensor([0.0]))
            self.ff = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

        def add(self, x: Tensor, branch: Tensor) -> Tensor:
            x = x + branch * self.attn_gate.tanh()
            return x + self.ff(x) * self.ff_gate.tanh()

    return crossed(Gated())


@healthy
def lora() -> Made:
    """LoRA: the base frozen, A random, B zero."""

    class Lora(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(12, 12).requires_grad_(False)
            self.lora_A = nn.Parameter(torch.randn(4, 12) * 0.1)
            self.lora_B = nn.Parameter(torch.zeros(12, 4))
            self.scaling = 2.0

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scaling

    return plain(Lora())


@healthy
def layer_scale() -> Made:
    """CaiT's layer scale at 1e-6."""

    class Block(CrossAttention):
        def build(self) -> None:
            self.ls = nn.Parameter(1e-6 * torch.ones(12))

        def add(self, x: Tensor, branch: Tensor) -> Tensor:
            return x + self.ls * branch

    return crossed(Block())


@healthy
def zero_init_residual() -> Made:
    """ResNet with the last batch norm's weight at 0."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
            nn.init.zeros_(self.bn2.weight)

        def forward(self, x: Tensor) -> Tensor:
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(x + y)

    body = nn.Sequential(
        nn.Conv2d(3, 8, 3), Residual(), Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    return body, (images(),)


@healthy
def skipinit_in_series() -> Made:
    """Scalar gates at 0 in a row of blocks, one inside the other's branch."""

    class Inner(nn.Module):
        def __init__(self, f: nn.Module) -> None:
            super().__init__()
            self.skip_gain = nn.Parameter(torch.zeros(()))
            self.f = f

        def forward(self, x: Tensor) -> Tensor:
            return x + self.f(x) * self.skip_gain

    return plain(Inner(nn.Sequential(nn.Linear(12, 12), Inner(nn.Linear(12, 12)))))


@healthy
def controlnet_zero_conv() -> Made:
    """ControlNet: a copy behind a convolution of zeros, the original locked."""

    class Control(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.locked = nn.Conv2d(3, 6, 3, padding=1)
            self.copy = copy.deepcopy(self.locked)
            self.locked.requires_grad_(False)
            self.zero = nn.Conv2d(6, 6, 1)
            nn.init.zeros_(self.zero.weight)
            nn.init.zeros_(self.zero.bias)
            self.head = nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.locked(x) + self.zero(self.copy(x)))

    return Control(), (images(),)


@healthy
def squeeze_excite_gate_bias() -> Made:
    """GRU-style gate with bias 2, as in gated transformers."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.u = nn.Linear(12, 12), nn.Linear(12, 12)
            self.gate_bias = nn.Parameter(torch.full((12,), 2.0))

        def forward(self, x: Tensor) -> Tensor:
            y = self.w(x)
            z = torch.sigmoid(self.u(x) - self.gate_bias)
            return (1 - z) * x + z * torch.tanh(y)

    return plain(Block())


# ---- temperatures ----


@healthy
def swin_v2_scale() -> Made:
    """Swin-v2: cosine, log scale per head from log 10, clamped at log 100 in the forward."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.logit_scale = nn.Parameter(torch.log(10 * torch.ones((3, 1, 1))))
            self.cpb = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 3, bias=False))
            self.register_buffer("coords", torch.linspace(-1, 1, 35).view(7, 5, 1), persistent=False)

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            attn = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
            attn = attn * torch.clamp(self.logit_scale, max=math.log(1.0 / 0.01)).exp()
            return attn + 16 * torch.sigmoid(self.cpb(self.coords).permute(2, 0, 1)).unsqueeze(0)

    return crossed(Attention())


@healthy
def clip_contrastive() -> Made:
    """CLIP with its symmetric loss and the ceiling kept in the forward, outside the graph."""

    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.text = nn.Linear(12, 8), nn.Linear(12, 8)
            self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                self.logit_scale.clamp_(0, math.log(100))
            a, b = F.normalize(self.image(x).mean(1), dim=-1), F.normalize(self.text(y).mean(1), dim=-1)
            logits = self.logit_scale.exp() * a @ b.t()
            return logits, logits.t()

    def loss(output: tuple[Tensor, Tensor]) -> Tensor:
        target = torch.arange(2)
        return (F.cross_entropy(output[0], target) + F.cross_entropy(output[1], target)) / 2

    model = Clip()
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}], lr=1e-4)
    return model, (pictures(), words()), optimizer, loss


@healthy
def siglip_scale_and_bias() -> Made:
    """SigLIP: scale log 10 and bias -10."""

    class Siglip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.text = nn.Linear(12, 8), nn.Linear(12, 8)
            self.logit_scale = nn.Parameter(torch.tensor(math.log(10)))
            self.logit_bias = nn.Parameter(torch.tensor(-10.0))

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            a, b = F.normalize(self.image(x).mean(1), dim=-1), F.normalize(self.text(y).mean(1), dim=-1)
            return {"logits": a @ b.t() * self.logit_scale.exp() + self.logit_bias}

    return Siglip(), {"x": pictures(), "y": words()}


@healthy
def cosine_classifier() -> Made:
    """ArcFace-like: normalised weights, learnable scale through softplus."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 12))
            self.scale = nn.Parameter(torch.tensor(10.0))

        def forward(self, x: Tensor) -> Tensor:
            return F.softplus(self.scale) * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1))

    return nn.Sequential(nn.Linear(12, 12), Head()), (pictures(),)


@healthy
def fixed_temperature() -> Made:
    """A temperature that is a number on purpose."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.temperature = 0.07
            self.learnable_temperature = False

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT / self.temperature

    return crossed(Attention())


@healthy
def buffer_temperature() -> Made:
    """A fixed scale as a buffer."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.register_buffer("scale", torch.tensor(0.5))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.scale

    return crossed(Attention())


@healthy
def scale_after_mask_free() -> Made:
    """Scaled first, masked afterwards, sdpa with the scale folded into q."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            b, n, c = x.shape
            q = self.to_q(self.norm(x)).view(b, n, 3, -1).transpose(1, 2) * self.scale
            k, v = (t.view(b, -1, 3, c // 3).transpose(1, 2) for t in self.to_kv(context).chunk(2, dim=-1))
            keep = torch.tensor([[True, True, True, False, False], [True] * 5])[:, None, None]
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
            return x + self.to_out(out.transpose(1, 2).reshape(b, n, c))

    return crossed(Attention())


@healthy
def t5_without_scale() -> Made:
    """T5: no scale at all, a relative bias of which most buckets are not met."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.relative_attention_bias = nn.Embedding(32, 3)

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            distance = (torch.arange(7)[:, None] - torch.arange(5)[None]).abs()
            return q @ k.mT + self.relative_attention_bias(distance).permute(2, 0, 1)

    return crossed(Attention())


@healthy
def alibi_slopes() -> Made:
    """ALiBi: fixed slopes as a buffer."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.register_buffer("slopes", torch.tensor([0.5, 0.25, 0.125]).view(3, 1, 1))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            distance = (torch.arange(7)[:, None] - torch.arange(5)[None]).abs()
            return q @ k.mT * 0.5 - self.slopes * distance

    return crossed(Attention())


@healthy
def qk_norm() -> Made:
    """Normalised queries and keys with a learnable gain per channel."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.q_gain, self.k_gain = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return (F.normalize(q, dim=-1) * self.q_gain) @ (F.normalize(k, dim=-1) * self.k_gain).mT * 8

    return crossed(Attention())


@healthy
def torch_multihead() -> Made:
    """Torch's own attention, key bias included."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(12, 3, batch_first=True)
            self.gamma = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            return x + self.gamma * self.attn(x, context, context)[0]

    return crossed(Block())


@healthy
def torch_encoder_layer() -> Made:
    """Torch's transformer layer with dropout."""
    return plain(nn.TransformerEncoderLayer(12, 3, 24, batch_first=True))


# ---- frozen, idle, tied ----


@healthy
def frozen_backbone() -> Made:
    """The backbone is frozen with its layer scales; the head learns."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(12) * 0.1)
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.gamma * self.fc(x)

    model, batch = plain(nn.Sequential(Block(), Block()))
    model.stem.requires_grad_(False)
    model.block.requires_grad_(False)
    return model, batch


@healthy
def backbone_without_gradient() -> Made:
    """The same by no_grad in the forward, requires_grad left on."""

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer_scale = nn.Parameter(torch.ones(12) * 0.1)
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.layer_scale * self.fc(x)

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Backbone()
            self.head = nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.backbone(x)
            return self.head(x)

    return Probe(), (pictures(),)


@healthy
def stop_gradient_branch() -> Made:
    """SimSiam: one side's output is detached, the weights are shared."""

    class SimSiam(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 8))
            self.predictor = nn.Linear(8, 8)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            a, b = self.encoder(x).mean(1), self.encoder(y).mean(1)
            return F.cosine_similarity(self.predictor(a), b.detach()) + F.cosine_similarity(
                self.predictor(b), a.detach()
            )

    return SimSiam(), (pictures(), words())


@healthy
def momentum_teacher() -> Made:
    """A teacher that follows by moving average, updated in the forward under no_grad."""

    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 12), nn.GELU(), nn.Linear(12, 8))
            self.teacher = copy.deepcopy(self.net).requires_grad_(False)
            self.temp = nn.Parameter(torch.tensor(0.1))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                for p, q in zip(self.net.parameters(), self.teacher.parameters(), strict=True):
                    q.data.mul_(0.99).add_(p.data, alpha=0.01)
                target = self.teacher(x).softmax(-1)
            return (target * F.log_softmax(self.net(x) / self.temp, dim=-1)).sum(-1)

    return Student(), (pictures(),)


@healthy
def hidden_teacher() -> Made:
    """A frozen teacher kept in a list so that it is not saved."""

    class Distilled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(12, 8)
            self._teacher = [nn.Linear(12, 8).requires_grad_(False)]

        def forward(self, x: Tensor) -> Tensor:
            return (self.net(x) - self._teacher[0](x)).pow(2).mean(-1)

    return Distilled(), (pictures(),)


@healthy
def tied_embedding() -> Made:
    """Input and output share a weight; the padding row has no gradient."""

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 12, padding_idx=0)
            self.body = nn.GRU(12, 12, batch_first=True)
            self.out = nn.Linear(12, 20, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.body(self.embed(ids))[0])

    return Language(), (torch.tensor([[3, 5, 7, 0], [2, 9, 0, 0]]),)


@healthy
def task_uncertainty() -> Made:
    """Learnt log variances that weigh the tasks' losses."""

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(12, 12)
            self.heads = nn.ModuleList(nn.Linear(12, 3) for _ in range(2))
            self.log_vars = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in range(2)])

        def forward(self, x: Tensor) -> Tensor:
            x = self.body(x)
            losses = [head(x).pow(2).mean() for head in self.heads]
            return sum((-s).exp() * loss + s for s, loss in zip(self.log_vars, losses, strict=True))

    return Weighted(), (pictures(),), None, lambda output: output


@healthy
def soft_experts() -> Made:
    """A router over experts that all have work."""

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(12, 3)
            self.experts = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))
            self.router_temperature = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            weight = (self.router(x) / self.router_temperature).softmax(-1)
            return sum(weight[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))

    return plain(Mixture())


# ---- straight-through, checkpointing, parametrisation ----


@healthy
def lsq_quantiser() -> Made:
    """LSQ: a learnt step size with a straight-through rounding."""

    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 12)
            self.step_scale = nn.Parameter(torch.tensor(0.05))

        def forward(self, x: Tensor) -> Tensor:
            g = 1 / math.sqrt(self.fc.weight.numel() * 7)
            s = (self.step_scale - self.step_scale * g).detach() + self.step_scale * g
            w = torch.clamp(self.fc.weight / s, -8, 7)
            w = (w.round() - w).detach() + w
            return F.linear(x, w * s, self.fc.bias)

    return plain(Quantised())


@healthy
def gumbel_hard_assignment() -> Made:
    """GroupViT's hard assignment with its straight-through gradient."""

    class Assign(CrossAttention):
        def build(self) -> None:
            self.logit_scale = nn.Parameter(torch.tensor(1.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            soft = F.gumbel_softmax(q @ k.mT * self.logit_scale.exp(), dim=-1)
            hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
            return hard - soft.detach() + soft

    return crossed(Assign())


@healthy
def vector_quantiser() -> Made:
    """VQ-VAE: straight-through lookup, codebook and commitment terms in the output."""

    class Quantiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.codebook = nn.Embedding(6, 12)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            nearest = torch.cdist(x, self.codebook.weight[None]).argmin(-1)
            z = self.codebook(nearest)
            loss = (z - x.detach()).pow(2).mean() + 0.25 * (z.detach() - x).pow(2).mean()
            return x + (z - x).detach(), loss

    return nn.Sequential(nn.Linear(12, 12), Quantiser()), (pictures(),)


@healthy
def checkpointed() -> Made:
    """Gradient checkpointing, without re-entry."""

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(12, 12), nn.GELU()) for _ in range(2))
            self.gates = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(2)])

        def forward(self, x: Tensor) -> Tensor:
            for block, gate in zip(self.blocks, self.gates, strict=True):
                x = x + gate * checkpoint(block, x, use_reentrant=False)
            return x

    return plain(Stack())


@healthy
def checkpointed_reentrant() -> Made:
    """The older, re-entrant checkpointing, in which the forward runs under no_grad."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 12)
            self.gamma = nn.Parameter(torch.tensor(0.1))

        def body(self, x: Tensor) -> Tensor:
            return x + self.gamma * self.fc(x)

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.body, x, use_reentrant=True)

    return plain(Block())


@healthy
def weight_normed() -> Made:
    """Weight norm and spectral norm, as parametrisations."""
    return plain(
        nn.Sequential(
            parametrizations.weight_norm(nn.Linear(12, 12)), parametrizations.spectral_norm(nn.Linear(12, 12))
        )
    )


@healthy
def weight_normed_old() -> Made:
    """The older weight norm, which sets a plain attribute before each forward."""
    with torch.no_grad():
        layer = nn.Linear(12, 12)
    layer = _quietly(lambda: nn.utils.weight_norm(layer))
    return plain(nn.Sequential(layer, nn.ReLU(), nn.utils.spectral_norm(nn.Linear(12, 12))))


def _quietly(make: Callable[[], Any]) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


@healthy
def positive_by_parametrisation() -> Made:
    """A scale kept positive by torch.nn.utils.parametrize."""

    class Exp(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.exp()

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.zeros(()))
            parametrize.register_parametrization(self, "scale", Exp(), unsafe=True)

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.scale

    return crossed(Attention())


@healthy
def hooks_with_closure() -> Made:
    """A hook that closes over the module: its copy would read the original's gate."""
    model, batch = plain(nn.Linear(12, 12))
    model.gate = nn.Parameter(torch.tensor(0.3))
    model.block.register_forward_hook(lambda module, args, out: args[0] + model.gate * out)
    return model, batch


@healthy
def projection_by_hook() -> Made:
    """The scale is put back below its ceiling by the optimizer's hook."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.logit_scale = nn.Parameter(torch.tensor(2.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.logit_scale.exp()

    model, batch = crossed(Attention())
    groups = [
        {"params": [p for p in model.parameters() if p.ndim]},
        {"params": [model.block.logit_scale], "weight_decay": 0.0, "lr": 1e-2},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)

    def project(*_: Any) -> None:
        with torch.no_grad():
            model.block.logit_scale.clamp_(0, math.log(100))

    optimizer.register_step_post_hook(project)
    return model, batch, optimizer


@healthy
def warm_up_from_zero() -> Made:
    """A warm-up that starts at rate 0."""
    model, batch = plain(nn.Linear(12, 12))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    return model, batch, optimizer


# ---- convolutions, norms, dropout, masks ----


@healthy
def conv_with_everything() -> Made:
    """Batch norm, dropout, PReLU, a learnt pooling exponent."""

    class Gem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.ones(1) * 3)

        def forward(self, x: Tensor) -> Tensor:
            return x.clamp(min=1e-6).pow(self.p).mean((-2, -1)).pow(1 / self.p)

    layers = [nn.Conv2d(3, 8, 3), nn.PReLU(), nn.BatchNorm2d(8), nn.Dropout2d(0.2), Gem(), nn.Linear(8, 4)]
    return nn.Sequential(*layers), (images(),)


@healthy
def stochastic_depth() -> Made:
    """Blocks that are left out at random, with a gate each."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 12)
            self.gamma = nn.Parameter(torch.full((12,), 0.1))

        def forward(self, x: Tensor) -> Tensor:
            keep = (torch.rand(x.shape[0], 1, 1) < 0.8).float() if self.training else 1.0
            return x + keep * self.gamma * self.fc(x)

    return plain(nn.Sequential(Block(), Block()))


@healthy
def global_response_norm() -> Made:
    """ConvNeXt-v2's GRN with gamma and beta at 0."""

    class Grn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.zeros(1, 1, 12))
            self.beta = nn.Parameter(torch.zeros(1, 1, 12))

        def forward(self, x: Tensor) -> Tensor:
            g = x.norm(dim=1, keepdim=True)
            return self.gamma * (x * g / (g.mean(-1, keepdim=True) + 1e-6)) + self.beta + x

    return plain(Grn())


@healthy
def rms_norm_by_hand() -> Made:
    """A hand-written RMS norm."""

    class RMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(12))

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale

    return plain(RMSNorm())


@healthy
def causal_mask() -> Made:
    """A causal mask of -inf after the scale."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(12, 36)
            self.scale = nn.Parameter(torch.tensor(0.3))
            self.register_buffer("mask", torch.ones(7, 7).tril().bool(), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            return x + (q @ k.mT * self.scale).masked_fill(~self.mask, float("-inf")).softmax(-1) @ v

    return plain(Block())


@healthy
def linear_attention() -> Made:
    """Softmax over channels and positions, no scores at all."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = nn.Linear(12, 12, bias=False), nn.Linear(12, 12, bias=False), nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.q(x).softmax(-1) @ (self.k(x).softmax(1).mT @ self.v(x))

    return plain(Block())


@healthy
def attention_map_kept() -> Made:
    """The last attention is kept as an attribute for plots."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.last_attention = None
            self.alpha = nn.Parameter(torch.tensor(0.5))

        def add(self, x: Tensor, branch: Tensor) -> Tensor:
            self.last_attention = branch
            return x + self.alpha * branch

    model, batch = crossed(Attention())
    model(*batch)
    return model, batch


@healthy
def inputs_that_learn() -> Made:
    """Adversarial training: the input itself requires a gradient."""
    return nn.Sequential(nn.Linear(12, 12), nn.Tanh()), (pictures().requires_grad_(),)


@healthy
def in_evaluation_mode() -> Made:
    """A model handed over in evaluation mode whose batch norm cannot train on one row."""
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    return model, (torch.randn(1, 12),)


@healthy
def mixup_between_streams() -> Made:
    """A learnt mix of two streams, sigmoid(0) = 0.5."""

    class Mix(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Parameter(torch.zeros(1))
            self.a, self.b = nn.Linear(12, 12), nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            m = self.mix.sigmoid()
            return torch.lerp(self.a(x), self.b(x), m)

    return plain(Mix())


@healthy
def perceiver() -> Made:
    """Learnt latents that attend to the input."""

    class Perceiver(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.latents = nn.Parameter(torch.randn(4, 12) * 0.02)
            self.cross = CrossAttention()
            self.mask_token = nn.Parameter(torch.zeros(1, 1, 12), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.cross(self.latents.expand(x.shape[0], -1, -1), x)

    return Net(Perceiver()), (pictures(),)


@healthy
def gate_at_minus_four() -> Made:
    """A sigmoid gate nearly closed, which still has a slope."""

    class Block(CrossAttention):
        def build(self) -> None:
            self.gate_logit = nn.Parameter(torch.tensor(-4.0))

        def add(self, x: Tensor, branch: Tensor) -> Tensor:
            return x + torch.sigmoid(self.gate_logit) * branch

    return crossed(Block())


@healthy
def loss_with_own_scale() -> Made:
    """The temperature lives in the loss module, and the optimizer holds it."""

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_temperature = nn.Parameter(torch.tensor(0.0))

        def forward(self, output: Tensor) -> Tensor:
            return F.cross_entropy(output.flatten(0, 1) / self.log_temperature.exp(), torch.arange(14) % 5)

    model, batch = plain(nn.Linear(12, 12))
    loss = Loss()
    groups = [{"params": model.parameters()}, {"params": loss.parameters(), "weight_decay": 0.0}]
    return model, batch, torch.optim.AdamW(groups, lr=1e-3), loss


@healthy
def complex_output() -> Made:
    """Complex output and integer inputs."""

    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 12)
            self.filter = nn.Parameter(torch.ones(7, dtype=torch.cfloat))

        def forward(self, ids: Tensor) -> Tensor:
            return torch.fft.rfft(self.embed(ids)) * self.filter

    return Spectral(), (torch.tensor([[1, 2, 3], [4, 5, 6]]),)


@healthy
def temperature_inside_a_tiny_branch() -> Made:
    """A cosine attention with a learnt scale inside a branch that layer scale holds at 1e-6."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.logit_scale = nn.Parameter(torch.tensor(1.0))
            self.gamma = nn.Parameter(1e-6 * torch.ones(12))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.logit_scale.exp()

        def add(self, x: Tensor, branch: Tensor) -> Tensor:
            return x + self.gamma * branch

    return crossed(Attention())


@healthy
def weak_branch_before_batch_norm() -> Made:
    """A gated branch that is almost the same everywhere, which batch norm almost takes away."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, bias=False)
            self.text = nn.Linear(12, 6)
            self.gate = nn.Parameter(torch.tensor(0.5))
            self.norm = nn.BatchNorm2d(6)

        def forward(self, x: Tensor, words: Tensor) -> Tensor:
            tokens = self.text(words[0])  # (tokens, channels)
            y = self.conv(x)
            weight = (y.flatten(2).mT @ tokens.mT * 0.01).softmax(-1)
            branch = (weight @ tokens).mT.reshape(y.shape)
            return self.norm(y + self.gate * branch)

    return Block(), (images(), words())


@healthy
def gate_before_a_norm_that_starts_at_zero() -> Made:
    """A gate in a residual branch whose last norm, of a class of one's own, has weight 0."""

    class ResidualNorm(nn.BatchNorm2d):
        def reset_parameters(self) -> None:
            super().reset_parameters()
            nn.init.zeros_(self.weight)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta = nn.Parameter(torch.tensor(0.5))
            self.mix, self.out = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, bias=False)
            self.norm = ResidualNorm(3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.mix(x)
            return F.relu(x + self.norm(self.out(y + self.theta * torch.tanh(y) * 0.01)))

    return nn.Sequential(Block(), Block()), (images(),)


@healthy
def layers_dropped_by_python() -> Made:
    """Layers left out by Python's own random numbers."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
            self.gates = nn.ParameterList(nn.Parameter(torch.tensor(0.1)) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            for layer, gate in zip(self.layers, self.gates, strict=True):
                if self.training and random.random() < 0.6:
                    continue
                x = x + gate * layer(x)
            return x * 1

    return Model(), (torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_(),)


@healthy
def depth_that_is_not_given() -> Made:
    """A gate that is read only where the batch has depth, in a method behind an early return."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.depth_fc = nn.Linear(4, 4), nn.Linear(3, 4)
            self.depth_gate, self.depth_scale = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.tensor(1.0))

        def fuse(self, x: Tensor, depth: Tensor) -> Tensor:
            return x + self.depth_gate * self.depth_fc(depth)

        def forward(self, x: Tensor, depth: Tensor | None = None) -> Tensor:
            x = self.fc(x)
            if depth is not None:
                depth = depth * self.depth_scale
            if depth is None:
                return x
            return self.fuse(x, depth)

    return Model(), {"x": torch.randn(5, 4)}


@healthy
def experts_with_weight_zero() -> Made:
    """All experts run, and the router gives most of them weight 0."""

    class Expert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.scale = nn.Linear(4, 4), nn.Parameter(torch.tensor(0.3))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * self.fc(x)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router, self.experts = nn.Linear(4, 6), nn.ModuleList(Expert() for _ in range(6))

        def forward(self, x: Tensor) -> Tensor:
            weight = self.router(x).softmax(dim=-1)
            best, index = weight.topk(1, dim=-1)
            weight = torch.zeros_like(weight).scatter(-1, index, best)
            return x + sum(weight[:, n : n + 1] * expert(x) for n, expert in enumerate(self.experts))

    return Model(), (torch.randn(2, 4),)


@healthy
def lazy_layers() -> Made:
    """Parameters that get their shape with the first batch."""
    return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(3)), (torch.randn(5, 4),)


@healthy
def sparse_embedding() -> Made:
    """Gradients that are sparse tensors."""
    return nn.Sequential(nn.Embedding(11, 4, sparse=True), nn.Linear(4, 3)), (torch.randint(0, 11, (2, 7)),)


class _Lookahead(torch.optim.SGD):
    """An optimizer with attributes of its own."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.1)
        self.inner = torch.optim.SGD(self.param_groups, lr=0.1)

    def step(self, closure: Any = None) -> Any:
        return self.inner.step(closure)


@healthy
def optimizer_of_ones_own() -> Made:
    """What a class adds to its optimizer is copied with it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    return model, (torch.randn(5, 4),), _Lookahead(model.parameters())


@healthy
def optimizer_that_asks_for_a_closure() -> Made:
    """LBFGS computes the loss itself."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    return model, (torch.randn(5, 4),), torch.optim.LBFGS(model.parameters()), lambda y: y.pow(2).mean()


@healthy
def gate_closed_softly() -> Made:
    """A softplus that starts low has little gradient and is not dead."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.low = nn.Linear(4, 4), nn.Parameter(torch.tensor(-10.0))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x) + F.softplus(self.low) * x

    return Model(), (torch.randn(5, 4, generator=torch.Generator().manual_seed(0)),)


@healthy
def logits_that_nobody_takes() -> Made:
    """A head computes scaled logits beside its features, and the model around it uses the features alone."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.logit_scale = nn.Linear(4, 4), nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.fc(x)
            return y, y * self.logit_scale.exp()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.out = Head(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            features, _ = self.head(x)
            return self.out(features)

    return Model(), (torch.randn(5, 4),)


@healthy
def in_float16() -> Made:
    """A model whose parameters are float16."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.gain = nn.Linear(8, 8), nn.Parameter(torch.tensor(0.2))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.gain * self.fc(x).relu()

    return Model().half(), (torch.randn(5, 8).half(),)


@healthy
def softplus_with_a_gentle_beta() -> Made:
    """At -30 a softplus of beta 0.1 has the slope that an ordinary one has at -3."""

    class Block(Gated):
        start = -30.0

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return F.softplus(self.a, beta=0.1) * y

    return Block(), rows()


@healthy
def flat_curve_beside_a_line() -> Made:
    """The sigmoid is flat, and the linear term brings the gradient."""

    class Block(Gated):
        start = -40.0

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return (torch.sigmoid(self.a) + 0.01 * self.a) * y

    return Block(), rows()


@healthy
def tensors_without_numbers() -> Made:
    """Slots of a model configured without them: parameters of no entries, used, unused and in a plain attribute."""

    class Block(Gated):
        def __init__(self) -> None:
            super().__init__()
            self.prompts = nn.Parameter(torch.empty(0, 4))
            self.gate = nn.Parameter(torch.empty(0))
            self.loose = [torch.empty(0, requires_grad=True)]

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return self.a * y + self.prompts.sum() + self.loose[0].sum()

    return Block(), rows()


@healthy
def optimizer_in_backward() -> Made:
    """Every parameter has an optimizer of its own, which steps as soon as its gradient is there and takes it away."""
    model, batch = plain(nn.Linear(12, 12))
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def step(parameter: Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    return model, batch
