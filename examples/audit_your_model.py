"""Find the knob that cannot turn in a model of your own, and see that the fix is one.

python examples/audit_your_model.py
"""

import math

import torch
from torch import nn

import semalign


class TextAttention(nn.Module):
    """Cross attention with a learnable temperature, in a common style: l starts at CLIP's value, clamped to ±2."""

    def __init__(self, dim: int, start: float = math.log(1 / 0.07)) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.logit_scale = nn.Parameter(torch.tensor(start))
        self.gate = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Return x with what the text says, x: B x N x C, text: B x T x C."""
        scale = self.logit_scale.clamp(-2.0, 2.0).exp() / math.sqrt(x.shape[-1])
        weights = (self.query(x) @ self.key(text).mT * scale).softmax(dim=-1)
        return x + self.gate * (weights @ self.value(text))


torch.manual_seed(0)
batch = torch.randn(2, 48, 32), torch.randn(2, 7, 32)  # a tuple is given to the model as model(*batch)

for start in (math.log(1 / 0.07), 0.0):
    model = TextAttention(32, start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    report = semalign.audit(model, batch, optimizer)  # a copy is audited: model and optimizer stay as they are
    print(f"l starts at {start:.2f}: {'no errors' if report.ok else 'it cannot learn'}")
    print(report, end="\n\n")
