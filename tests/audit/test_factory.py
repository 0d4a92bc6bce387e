"""The audit of what a factory makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from semalign.audit.factory import audit_factory
from semalign.errors import ConfigError

FACTORY = """
import torch
from torch import nn

class Gated(nn.Module):
    def __init__(self, dead):
        super().__init__()
        self.dead, self.fc = dead, nn.Linear(3, 3)
        self.gate = nn.Parameter(torch.tensor(0.3))
    def forward(self, x):
        return x + (self.gate.detach() if self.dead else self.gate) * self.fc(x)

def dead():
    return Gated(True), (torch.ones(2, 3),)

def alive():
    model = Gated(False)
    return {"model": model, "batch": {"x": torch.ones(2, 3)}, "loss": lambda y: y.sum()}

def with_optimizer():
    model = Gated(False)
    return model, torch.ones(2, 3), torch.optim.SGD(model.parameters(), lr=0.1), lambda y, batch: (y - batch).sum()

def wrong():
    return 3

def mapping():
    return {"net": 1}
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    """Return a file of factories."""
    path = tmp_path / "audited_by_test.py"
    path.write_text(FACTORY)
    return path


def test_factories(factory: Path) -> None:
    """A factory's tuple or mapping is audited, with its optimizer and loss."""
    assert [(i.code, i.where) for i in audit_factory(f"{factory}:dead").errors] == [("detached", "gate")]
    assert audit_factory(f"{factory}:alive").ok
    assert audit_factory(f"{factory}:with_optimizer").ok


def test_factory_messages(factory: Path) -> None:
    """What is no factory is said in one sentence."""
    with pytest.raises(ConfigError, match=r"returned int, expected \(model, batch\)"):
        audit_factory(f"{factory}:wrong")
    with pytest.raises(ConfigError, match="returned a mapping of net, expected model, batch and optionally"):
        audit_factory(f"{factory}:mapping")
    with pytest.raises(ConfigError, match="found no function 'gone' in"):
        audit_factory(f"{factory}:gone")
    with pytest.raises(ConfigError, match="cannot import 'no_such_module' of 'no_such_module:make'"):
        audit_factory("no_such_module:make")
