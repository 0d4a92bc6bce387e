# ruff: noqa: D102, D401 (the docstring names a style of code; its classes are as public code writes them)
# mypy: disable-error-code="no-any-return,arg-type,operator,assignment,attr-defined,union-attr,index,no-untyped-call"
"""Modules with one fault each, in the styles of public code: Swin-v2, CLIP, Flamingo, LoRA, CaiT, ReZero, ..."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

from tests.audit.zoo import fault

Made = tuple[Any, ...]


def pictures() -> Tensor:
    """Return 2 x 7 tokens of width 12."""
    return torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(0))


def words() -> Tensor:
    """Return 2 x 5 tokens of width 12."""
    return torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))


class CrossAttention(nn.Module):
    """Attention from pictures to words; subclasses change one thing."""

    def __init__(self, dim: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.build()

    def build(self) -> None:
        """Make the knobs."""

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        b, n, c = x.shape
        q = self.to_q(self.norm(x)).view(b, n, self.heads, -1).transpose(1, 2)
        k, v = self.to_kv(context).chunk(2, dim=-1)
        k = k.view(b, -1, self.heads, c // self.heads).transpose(1, 2)
        v = v.view(b, -1, self.heads, c // self.heads).transpose(1, 2)
        attn = self.scores(q, k).softmax(dim=-1)
        out = (attn @ v).transpose(1, 2).reshape(b, n, c)
        return self.add(x, self.to_out(out))


class Net(nn.Module):
    """A block between a stem and a head."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Linear(12, 12)
        self.block = block
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.stem(x)
        x = self.block(x) if context is None else self.block(x, context)
        return self.head(x)


def crossed(block: nn.Module) -> Made:
    """Return a net around an attention, with pictures and words."""
    return Net(block), (pictures(), words())


def plain(block: nn.Module) -> Made:
    """Return a net around a block that takes pictures alone."""
    return Net(block), (pictures(),)


# ---- start outside the bound ----


@fault("init-outside-bound", "block.logit_scale")
def clip_scale_clamped_at_two() -> Made:
    """CLIP's start under the clamp of a smaller range."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            scale = torch.clamp(self.logit_scale, min=-2.0, max=2.0).exp() / math.sqrt(q.shape[-1])
            return torch.matmul(q, k.transpose(-2, -1)) * scale

    return crossed(Attention())


@fault("init-outside-bound", "block.temp")
def xvlm_temperature_below_its_minimum() -> Made:
    """A temperature divided by, clamped from below in the forward."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.temp = nn.Parameter(torch.ones([]) * 0.0007)

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT / self.temp.clamp(0.001, 0.5)

    return crossed(Attention())


@fault("init-outside-bound", "logit_scale")
def scale_with_python_min() -> Made:
    """`min(scale.exp(), 100)` hands out the number 100 instead of the tensor."""

    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = nn.Linear(12, 8)
            self.text = nn.Linear(12, 8)
            self.logit_scale = nn.Parameter(torch.tensor(4.7))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            a = F.normalize(self.image(x).mean(1), dim=-1)
            b = F.normalize(self.text(y).mean(1), dim=-1)
            return min(self.logit_scale.exp(), 100.0) * a @ b.t()

    return Clip(), (pictures(), words())


@fault("init-outside-bound", "block.gate")
def relu_gate_below_zero() -> Made:
    """A gate kept positive by relu, starting below 0."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.tensor([-0.1]))
            self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

        def forward(self, x: Tensor) -> Tensor:
            return x + F.relu(self.gate) * self.mlp(x)

    return plain(Block())


@fault("init-outside-bound", "block.tau")
def swin_tau_beyond_torch_maximum() -> Made:
    """Swin-v2's tau per head, held by torch.maximum."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.tau = nn.Parameter(torch.full((3, 1, 1), 0.005))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            tau = torch.maximum(self.tau, torch.tensor(0.01))
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT / tau

    return crossed(Attention())


@fault("init-outside-bound", "block.scale")
def some_heads_outside() -> Made:
    """Three heads, of which one starts beyond the clamp."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 6.0]).view(3, 1, 1))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * torch.clamp(self.scale, max=math.log(100)).exp()

    return crossed(Attention())


# ---- two zeros ----


@fault("two-zero-factors", "block.alpha")
def rezero_with_zero_projection() -> Made:
    """ReZero's gate in front of a projection that starts at 0 as well."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alpha = nn.Parameter(torch.zeros(1))
            self.fc1, self.fc2 = nn.Linear(12, 24), nn.Linear(24, 12)
            nn.init.zeros_(self.fc2.weight)
            nn.init.zeros_(self.fc2.bias)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.alpha * self.fc2(F.gelu(self.fc1(x)))

    return plain(Block())


@fault("two-zero-factors", "block.lora_A")
def lora_with_both_zero() -> Made:
    """LoRA with A and B both at 0."""

    class Lora(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(12, 12)
            self.lora_A = nn.Parameter(torch.zeros(4, 12))
            self.lora_B = nn.Parameter(torch.zeros(12, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + x @ self.lora_A.t() @ self.lora_B.t() * 2.0

    return plain(Lora())


@fault("two-zero-factors", "block.attn_gate")
def flamingo_tanh_gate_times_layer_scale() -> Made:
    """Flamingo's tanh gate in front of a CaiT layer scale of 0."""

    class Block(CrossAttention):
        def build(self) -> None:
            self.attn_gate = nn.Parameter(torch.tensor([0.0]))
            self.layer_scale = nn.Parameter(torch.zeros(12))

        def add(self, x: Tensor, branch: Tensor) -> Tensor:
            return x + self.attn_gate.tanh() * (self.layer_scale * branch)

    return crossed(Block())


@fault("two-zero-factors", "block.gamma")
def gamma_behind_a_zero_norm() -> Made:
    """A non-local block with gamma 0 and the last norm's weight 0."""

    class NonLocal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta, self.phi, self.g = nn.Linear(12, 6), nn.Linear(12, 6), nn.Linear(12, 12)
            self.out = nn.LayerNorm(12)
            nn.init.zeros_(self.out.weight)
            self.gamma = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            attn = (self.theta(x) @ self.phi(x).mT).softmax(-1)
            return self.gamma * self.out(attn @ self.g(x)) + x

    return plain(NonLocal())


# ---- cut off ----


@fault("detached", "block.scale")
def detached_temperature() -> Made:
    """`.detach()` to "stabilise" the temperature."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.tensor(1.5))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.scale.exp().detach()

    return crossed(Attention())


@fault("detached", "block.gamma")
def gamma_by_data() -> Made:
    """The old idiom `.data` in an expression."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(1e-1 * torch.ones(12))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.gamma.data * self.fc(x)

    return plain(Block())


@fault("detached", "block.gate")
def gate_through_torch_tensor() -> Made:
    """A fresh tensor built from the parameter's values."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.tensor(0.3))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.sigmoid(self.gate.clone().detach().to(x.dtype)) * self.fc(x)

    return plain(Block())


@fault("turned-into-number", "block.temperature")
def temperature_item_for_sdpa() -> Made:
    """scaled_dot_product_attention wants a float for scale."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.temperature = nn.Parameter(torch.tensor(0.4))

        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            q = self.to_q(self.norm(x))[:, None]
            k, v = self.to_kv(context)[:, None].chunk(2, dim=-1)
            out = F.scaled_dot_product_attention(q, k, v, scale=self.temperature.item())
            return x + self.to_out(out[:, 0])

    return crossed(Attention())


@fault("turned-into-number", "block.alpha")
def alpha_as_float() -> Made:
    """`float(...)` in the forward, for torch.add's alpha."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alpha = nn.Parameter(torch.tensor(0.5))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return torch.add(x, self.fc(x), alpha=float(self.alpha))

    return plain(Block())


@fault("turned-into-number", "block.scales")
def scales_to_list() -> Made:
    """Per-head numbers through tolist."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scales = nn.Parameter(torch.ones(3))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            parts = [q[:, h] @ k[:, h].mT * s for h, s in enumerate(self.scales.tolist())]
            return torch.stack(parts, dim=1)

    return crossed(Attention())


@fault("no-grad", "block.log_temp")
def exp_under_no_grad() -> Made:
    """The scale is computed in a no_grad block beside the mask."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.log_temp = nn.Parameter(torch.zeros(1))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            with torch.no_grad():
                scale = self.log_temp.exp() * q.shape[-1] ** -0.5
            return q @ k.mT * scale

    return crossed(Attention())


@fault("no-grad", "block.temperature.log_t")
def decorated_helper_module() -> Made:
    """A small module whose forward wears @torch.no_grad()."""

    class Temperature(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_t = nn.Parameter(torch.tensor(0.1))

        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return x * self.log_t.exp()

    class Attention(CrossAttention):
        def build(self) -> None:
            self.temperature = Temperature()
            self.mix = nn.Linear(5, 5)

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            s = q @ k.mT
            return s + self.mix(self.temperature(s))

    return crossed(Attention())


# ---- written over, made too late, left out ----


@fault("overwritten", "block.scale")
def fill_in_forward() -> Made:
    """A debugging line that stayed: the scale is set in every forward."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.ones(1))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            self.scale.data.fill_(0.25)
            return q @ k.mT * self.scale

    return crossed(Attention())


@fault("overwritten", "block.gamma")
def data_assigned_in_forward() -> Made:
    """`.data = ` puts other memory under the parameter."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.tensor(0.1))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            self.gamma.data = torch.tensor(0.1)
            return x + self.gamma * self.fc(x)

    return plain(Block())


@fault("overwritten", "block.gate")
def initialiser_in_forward() -> Made:
    """reset_parameters runs with every call."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.empty(12))
            self.fc = nn.Linear(12, 12)

        def reset_parameters(self) -> None:
            nn.init.constant_(self.gate, 0.1)

        def forward(self, x: Tensor) -> Tensor:
            self.reset_parameters()
            return x + self.gate * self.fc(x)

    return plain(Block())


@fault("created-after-optimizer", "block.scale")
def lazily_made_scale() -> Made:
    """Made at the first forward, when the width is known."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = None
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            if self.scale is None:
                self.scale = nn.Parameter(torch.full((x.shape[-1],), 0.1))
            return x + self.scale * self.fc(x)

    return plain(Block())


@fault("created-after-optimizer", "block.gamma")
def made_anew_each_forward() -> Made:
    """A new parameter under the old name with each call."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(1))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            self.gamma = nn.Parameter(torch.ones(1, device=x.device))
            return x + self.gamma * self.fc(x)

    return plain(Block())


@fault("created-after-optimizer", "block")
def parameter_as_local_variable() -> Made:
    """A parameter that lives as long as the forward."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            temperature = nn.Parameter(torch.ones([]) * 0.07)
            return x + self.fc(x) / temperature

    return plain(Block())


@fault("not-in-optimizer", "logit_scale")
def optimizer_over_the_parts() -> Made:
    """The towers are given to the optimizer, the scale between them is not."""

    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.text = nn.Linear(12, 8), nn.Linear(12, 8)
            self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            a, b = F.normalize(self.image(x).mean(1), dim=-1), F.normalize(self.text(y).mean(1), dim=-1)
            return self.logit_scale.exp() * a @ b.t()

    model = Clip()
    optimizer = torch.optim.AdamW([*model.image.parameters(), *model.text.parameters()], lr=1e-3)
    return model, (pictures(), words()), optimizer


@fault("not-in-optimizer", "block.alpha")
def groups_by_number_of_axes() -> Made:
    """Groups for matrices and for biases; the gate is neither."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alpha = nn.Parameter(torch.full((), 0.1))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.alpha * self.fc(x)

    model, batch = plain(Block())
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    return model, batch, torch.optim.SGD([{"params": decay, "weight_decay": 1e-4}, {"params": rest}], lr=0.1)


@fault("not-in-optimizer", "head")
def head_replaced_after_the_optimizer() -> Made:
    """Fine-tuning: the head is replaced when the optimizer already holds the old one."""
    model, batch = plain(nn.Identity())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.head = nn.Linear(12, 3)
    return model, batch, optimizer


# ---- not registered, derived ----


@fault("not-registered", "block.gates[0]")
def gates_in_a_list() -> Made:
    """A Python list of parameters."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
            self.gates = [nn.Parameter(torch.ones(1) * 0.1) for _ in range(2)]

        def forward(self, x: Tensor) -> Tensor:
            for gate, layer in zip(self.gates, self.layers, strict=True):
                x = x + gate * layer(x)
            return x

    return plain(Block())


@fault("not-registered", "block.scales[image]")
def scales_in_a_dict() -> Made:
    """A dict of parameters by modality."""

    class Block(CrossAttention):
        def build(self) -> None:
            self.scales = {"image": nn.Parameter(torch.ones([])), "depth": nn.Parameter(torch.ones([]))}

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.scales["image"]

    return crossed(Block())


@fault("not-registered", "block.layers[0]")
def blocks_in_a_list() -> Made:
    """A Python list of modules."""

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(12, 12), nn.Linear(12, 12)]

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = x + layer(x)
            return x

    return plain(Stack())


@fault("not-registered", "block.cfg.scale")
def parameter_on_a_config_object() -> Made:
    """The parameter sits on an object that is no module."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.cfg = SimpleNamespace(scale=nn.Parameter(torch.tensor(0.5)))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.cfg.scale

    return crossed(Attention())


@fault("not-registered", "block.tau")
def tensor_that_requires_grad() -> Made:
    """requires_grad=True makes no parameter."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.tau = torch.tensor(0.1, requires_grad=True)

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT / self.tau

    return crossed(Attention())


SHARED_SCALE = nn.Parameter(torch.tensor(0.3))


@fault("not-registered", "block")
def parameter_of_the_file() -> Made:
    """A module-level parameter."""

    class Attention(CrossAttention):
        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * SHARED_SCALE

    return crossed(Attention())


@fault("derived-tensor", "block.logit_scale")
def scale_times_number() -> Made:
    """`nn.Parameter(...) * x` is the product, not the parameter."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.logit_scale = nn.Parameter(torch.ones([])) * math.log(1 / 0.07)

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.logit_scale.exp()

    return crossed(Attention())


@fault("derived-tensor", "block.gamma")
def parameter_moved_to_a_dtype() -> Made:
    """`.to(...)` on a parameter, as `.cuda()` does on a GPU."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.full((12,), 0.1)).to(torch.float64)
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + (self.gamma * self.fc(x)).to(x.dtype)

    return plain(Block())


@fault("derived-tensor", "block.scale")
def scale_computed_once() -> Made:
    """Exp is taken in __init__; the parameter itself goes unused."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.log_scale = nn.Parameter(torch.zeros([]))
            self.scale = self.log_scale.exp()

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.scale

    return crossed(Attention())


# ---- never used, without effect, flat ----


@fault("never-used", "block.logit_scale")
def declared_and_forgotten() -> Made:
    """The forward uses the fixed 1/sqrt(d)."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.logit_scale = nn.Parameter(torch.zeros([]))

    return crossed(Attention())


@fault("never-used", "block.gamma")
def branch_switched_off() -> Made:
    """The flag that would use gamma is off."""

    class Block(nn.Module):
        def __init__(self, use_gamma: bool = False) -> None:
            super().__init__()
            self.use_gamma = use_gamma
            self.gamma = nn.Parameter(torch.ones(12))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(x)
            if self.use_gamma:
                y = self.gamma * y
            return x + y

    return plain(Block())


@fault("never-used", "block.temperature")
def result_thrown_away() -> Made:
    """The scaled scores are computed and the unscaled ones used."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.temperature = nn.Parameter(torch.tensor(0.5))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            scores = q @ k.mT
            scores / self.temperature
            return scores

    return crossed(Attention())


@fault("no-effect", "block.shift")
def temperature_added_not_multiplied() -> Made:
    """A number added to all scores cancels in the softmax."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.shift = nn.Parameter(torch.tensor(0.5))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT + self.shift

    return crossed(Attention())


@fault("no-effect", "block.scale")
def scale_before_normalize() -> Made:
    """The scale multiplies what is normalised afterwards."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.tensor(4.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.normalize(self.scale * q, dim=-1) @ F.normalize(k, dim=-1).mT * 10

    return crossed(Attention())


@fault("saturated", "block.gate")
def sigmoid_gate_far_out() -> Made:
    """A gate "closed at the start" by -100."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.tensor(-100.0))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.sigmoid(self.gate) * self.fc(x)

    return plain(Block())


@fault("saturated", "block.gate")
def tanh_gate_far_out() -> Made:
    """A tanh gate "open at the start" by 20."""

    class Block(CrossAttention):
        def build(self) -> None:
            self.gate = nn.Parameter(torch.full((1,), 20.0))

        def add(self, x: Tensor, branch: Tensor) -> Tensor:
            return x + torch.tanh(self.gate) * branch

    return crossed(Block())


@fault("saturated", "block.scale")
def one_hot_attention() -> Made:
    """A scale given as the log of nothing: exp makes every row one-hot."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.tensor(14.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.scale.exp()

    return crossed(Attention())


@fault("zero-gradient", "block.threshold")
def comparison_with_a_threshold() -> Made:
    """A learnable threshold that is only compared with."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.threshold = nn.Parameter(torch.tensor(0.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            scores = q @ k.mT
            return torch.where(scores > self.threshold, scores, scores * 0.1)

    return crossed(Attention())


@fault("zero-gradient", "block.log2_scale")
def rounded_scale() -> Made:
    """A power-of-two scale without a straight-through estimator."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log2_scale = nn.Parameter(torch.tensor(0.3))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x) * 2 ** torch.round(self.log2_scale)

    return plain(Block())


@fault("frozen-though-learnable", "block.logit_scale")
def flag_says_learnable() -> Made:
    """The flag is read, the tensor is a buffer all the same."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.learnable_temperature = True
            self.register_buffer("logit_scale", torch.tensor(0.5))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.logit_scale

    return crossed(Attention())


@fault("frozen-though-learnable", "block.learned_gate")
def learned_by_name_alone() -> Made:
    """requires_grad=False was meant for another parameter."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.learned_gate = nn.Parameter(torch.tensor(0.1), requires_grad=False)
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.learned_gate * self.fc(x)

    return plain(Block())


@fault("frozen-though-learnable", "block.scale")
def learnable_number() -> Made:
    """A Python number beside a flag that says learnable."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.learnable_scale = True
            self.scale = nn.Parameter(torch.tensor(0.5)).item()

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.scale

    return crossed(Attention())


# ---- warnings ----


@fault("near-uniform-attention", "block")
def cosine_over_root_d() -> Made:
    """A cosine divided by sqrt(d) as if it were a dot product."""

    class Attention(CrossAttention):
        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT / math.sqrt(64)

    return crossed(Attention())


@fault("near-uniform-attention", "block")
def bounded_scale_too_small() -> Made:
    """A sigmoid holds the scale of a cosine below 0.2."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.tensor(0.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * (0.2 * torch.sigmoid(self.scale))

    return crossed(Attention())


@fault("single-token", "block")
def one_sentence() -> Made:
    """One sentence embedding per image as the only token."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.tensor(1.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.scale

    return Net(Attention()), (pictures(), words()[:, :1])


@fault("mask-then-scale", "block.scale")
def masked_with_inf_then_scaled() -> Made:
    """masked_fill(-inf), then the learnable scale."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.tensor(1.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            scores = q @ k.mT
            keep = torch.arange(5) < 3
            return scores.masked_fill(~keep, float("-inf")) * self.scale

    return crossed(Attention())


@fault("mask-then-scale", "block.temperature")
def masked_with_number_then_divided() -> Made:
    """-1e9 in the mask, then division by the temperature."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.temperature = nn.Parameter(torch.tensor(1.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            mask = torch.tensor([0.0, 0.0, 0.0, -1e9, -1e9])
            return (q @ k.mT + mask) / self.temperature

    return crossed(Attention())


@fault("rows-without-text", "block")
def image_without_words() -> Made:
    """The second image has no word left under its mask."""

    class Attention(CrossAttention):
        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            keep = torch.tensor([[True] * 5, [False] * 5])
            return (q @ k.mT * 0.5).masked_fill(~keep[:, None, None], float("-inf"))

    return crossed(Attention())


@fault("rows-without-text", "block")
def sdpa_row_masked() -> Made:
    """The same with the fused kernel and a large finite number."""

    class Attention(CrossAttention):
        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            q = self.to_q(self.norm(x))[:, None]
            k, v = self.to_kv(context)[:, None].chunk(2, dim=-1)
            mask = torch.zeros(2, 1, 1, 5)
            mask[1] = -1e9
            return x + self.to_out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[:, 0])

    return crossed(Attention())


@fault("half-overflow", "block")
def scores_beyond_half() -> Made:
    """Unscaled products of large features."""

    class Attention(CrossAttention):
        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return (300 * q) @ (300 * k).mT

    return crossed(Attention())


@fault("scalar-decay", "block.gamma")
def decay_on_everything() -> Made:
    """One group, weight decay 0.05, gates included."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.tensor(0.1))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.gamma * self.fc(x)

    model, batch = plain(Block())
    return model, batch, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)


@fault("decay-only", "block.scale")
def decayed_without_gradient() -> Made:
    """A dead scale under SGD with weight decay drifts to 0."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.scale = nn.Parameter(torch.tensor(3.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.scale.clamp(max=2.0)

    model, batch = crossed(Attention())
    return model, batch, torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)


@fault("pinned-at-bound", "block.logit_scale")
def starts_on_its_ceiling() -> Made:
    """Starts at log 100 and is put back there in each forward."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.logit_scale = nn.Parameter(torch.tensor(math.log(100)))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            self.logit_scale.data.clamp_(0, math.log(100))
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.logit_scale.exp()

    return crossed(Attention())


@fault("pinned-at-bound", "block.logit_scale")
def starts_on_the_clamp() -> Made:
    """Starts exactly on the bound of the clamp in the forward."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.logit_scale = nn.Parameter(torch.tensor(2.0))

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.logit_scale.clamp(-2, 2).exp()

    return crossed(Attention())


@fault("idle-group", "block.gamma")
def rate_zero() -> Made:
    """The gate's own group with lr 0."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.tensor(0.1))
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.gamma * self.fc(x)

    model, batch = plain(Block())
    rest = [p for p in model.parameters() if p.ndim]
    groups = [{"params": rest}, {"params": [model.block.gamma], "lr": 0.0}]
    return model, batch, torch.optim.Adam(groups, lr=1e-3)


@fault("idle-group", "block.gamma")
def rate_by_a_name_torch_does_not_read() -> Made:
    """`learning_rate` in a group is ignored."""
    model, batch, _ = rate_zero()
    rest = [p for p in model.parameters() if p.ndim]
    groups = [{"params": rest}, {"params": [model.block.gamma], "learning_rate": 0.1}]
    return model, batch, torch.optim.Adam(groups, lr=1e-3)


@fault("plain-tensor", "block.logit_scale")
def scale_without_parameter() -> Made:
    """nn.Parameter was forgotten."""

    class Attention(CrossAttention):
        def build(self) -> None:
            self.logit_scale = torch.ones([]) * 0.5

        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return q @ k.mT * self.logit_scale

    return crossed(Attention())


@fault("non-finite", "stem.weight")
def root_of_zero() -> Made:
    """A root has an infinite slope at 0: a standard deviation of equal numbers."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(x)
            return y + (y - y).pow(2).mean(dim=-1, keepdim=True).sqrt()

    return plain(Block())


# ---- how a tensor comes to be without a gradient, in less usual ways ----


class Gated(nn.Module):
    """A layer with one tensor whose name says nothing; subclasses say what it does."""

    start: Any = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.a = nn.Parameter(torch.as_tensor(self.start, dtype=torch.float32).clone())

    def use(self, y: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return x + self.use(self.fc(x), x)


def rows() -> Tensor:
    """Return 5 rows of width 4."""
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(2))


@fault("saturated", "a")
def magnitude_of_a_zero() -> Made:
    """The derivative of |a| at 0 is 0."""

    class Block(Gated):
        start = 0.0

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return self.a.abs() * y

    return Block(), rows()


@fault("saturated", "a")
def curve_over_batch_and_offset() -> Made:
    """The sigmoid is flat at every entry because of the offset."""

    class Block(Gated):
        start = -200.0

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return torch.sigmoid(y + self.a) * x

    return Block(), rows()


@fault("init-outside-bound", "a")
def bounds_for_each_channel() -> Made:
    """The clamp's bounds are tensors, and nothing in the vector's name says that it is a knob."""

    class Block(Gated):
        start = (3.0, 3.5, 4.0, 5.0)

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return torch.clamp(self.a, torch.zeros(4), torch.full((4,), 2.0)) * y

    return Block(), rows()


@fault("init-outside-bound", "a")
def clamp_out_of_two_terms() -> Made:
    """A - relu(a - 2): the gradients of the two terms cancel."""

    class Block(Gated):
        start = 5.0

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return (self.a - F.relu(self.a - 2)) * y

    return Block(), rows()


@fault("pinned-at-bound", "a")
def logarithm_of_the_ceiling() -> Made:
    """CLIP's clamp after exp, started at its bound but for rounding."""

    class Block(Gated):
        start = math.log(100.0)

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return self.a.exp().clamp(max=100.0) * y

    return Block(), rows()


@fault("turned-into-number", "a")
def vector_through_numpy() -> Made:
    """No operation of torch reads it."""

    class Block(Gated):
        start = (0.5, 0.1, 0.2, 0.3)

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return torch.from_numpy(self.a.detach().numpy() * 1.0) * y

    return Block(), rows()


class _ScaleWithoutGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return gradient * scale, None


@fault("zero-gradient", "a")
def own_backward_forgets_the_scale() -> Made:
    """An autograd function whose backward returns None for it."""

    class Block(Gated):
        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return _ScaleWithoutGradient.apply(y, self.a)

    return Block(), rows()


@fault("never-used", "a")
def vector_that_no_code_reads() -> Made:
    """A vector without a telling name, left over in __init__."""

    class Block(Gated):
        start = (1.0, 1.0, 1.0, 1.0)

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return y

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x)

    return Block(), rows()


@fault("overwritten", "a")
def filled_through_numpy() -> Made:
    """Written over where torch does not see it."""

    class Block(Gated):
        def use(self, y: Tensor, x: Tensor) -> Tensor:
            self.a.detach().numpy().fill(0.2)
            return self.a * y

    return Block(), rows()


@fault("two-zero-factors", "first.weight")
def two_zero_layers_in_a_row() -> Made:
    """Both layers of an adapter start at 0."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            for parameter in (*self.first.parameters(), *self.second.parameters()):
                nn.init.zeros_(parameter)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x + self.second(self.first(x)))

    return Block(), rows()


@fault("derived-tensor", "scale")
def result_kept_as_a_buffer() -> Made:
    """The result of a product with a parameter, registered as a buffer."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_buffer("scale", nn.Parameter(torch.ones(1)) * 0.1)

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * self.fc(x)

    return Block(), rows()


@fault("init-outside-bound", "block.a")
def recomputed_part() -> Made:
    """The forward of a checkpointed part runs without gradients, its recomputation with them."""

    class Block(Gated):
        start = 3.0

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return self.a.clamp(max=2.0) * y

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block = nn.Linear(4, 4), Block()

        def forward(self, x: Tensor) -> Tensor:
            return torch.utils.checkpoint.checkpoint(self.block, self.stem(x), use_reentrant=True)

    return Model(), rows()


@fault("idle-group", "a")
def rate_below_the_last_bit() -> Made:
    """The group's rate is so small that no bit changes."""

    class Block(Gated):
        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return self.a * y

    model = Block()
    return (
        model,
        rows(),
        torch.optim.SGD([{"params": model.fc.parameters()}, {"params": [model.a], "lr": 1e-20}], lr=0.1),
    )


@fault("near-uniform-attention", "")
def cosines_entry_by_entry() -> Made:
    """Cosine attention without a matrix product for its scores."""

    class Block(CrossAttention):
        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return F.cosine_similarity(q[..., :, None, :], k[..., None, :, :], dim=-1) * 0.1

    return Block(), (pictures(), words())


@fault("rows-without-text", "")
def softmax_by_hand() -> Made:
    """exp(s - max) / sum over an image without text."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = nn.Linear(12, 12), nn.Linear(12, 12, bias=False), nn.Linear(12, 12)

        def forward(self, x: Tensor, text: Tensor, valid: Tensor) -> Tensor:
            s = (self.q(x) @ self.k(text).mT).masked_fill(~valid[:, None], -torch.inf)
            e = (s - s.amax(dim=-1, keepdim=True)).exp()
            return x + (e / e.sum(dim=-1, keepdim=True)) @ self.v(text)

    valid = torch.ones(2, 5, dtype=torch.bool)
    valid[1] = False
    return Block(), {"x": pictures(), "text": words(), "valid": valid}


@fault("half-overflow", "")
def scores_beyond_float16() -> Made:
    """A model in float16 whose scores are inf."""

    class Block(CrossAttention):
        def scores(self, q: Tensor, k: Tensor) -> Tensor:
            return (q * 500) @ (k * 500).transpose(-2, -1)

    return Block().half(), (pictures().half(), words().half())


@fault("key-bias", "qkv.bias")
def packed_key_bias() -> Made:
    """One layer makes queries, keys and values, as timm's does."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            b, n, c = x.shape
            q, k, v = self.qkv(x).reshape(b, n, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))

    return Block(), (pictures(),)


@fault("zero-gradient", "a")
def zeroed_after_accumulation() -> Made:
    """A hook meant for another stage of training zeroes each gradient once it is complete."""

    class Block(Gated):
        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return self.a * y

    model = Block()

    def freeze(parameter: Tensor) -> None:
        parameter.grad.zero_()

    model.a.register_post_accumulate_grad_hook(freeze)
    return model, rows()


@fault("saturated", "a")
def two_curves_flat_together() -> Made:
    """Two ways to the output, and both are flat."""

    class Block(Gated):
        start = -40.0

        def use(self, y: Tensor, x: Tensor) -> Tensor:
            return (torch.sigmoid(self.a) + self.a.exp()) * y

    return Block(), rows()
