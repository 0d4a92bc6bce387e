"""The audit's entry, its report, its numbers, and its messages."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import semalign
from semalign.audit.evidence.names import asks_to_learn, is_hint, mentioned
from semalign.audit.evidence.outputs import flatten_outputs, projection_loss
from semalign.audit.evidence.sharpness import lowest_entropy, scale_for_entropy
from semalign.audit.evidence.subject import loose_tensors
from semalign.audit.findings import Finding, make_report
from semalign.audit.liveness import audit
from semalign.errors import ConfigError
from semalign.wording import say


class Clamped(nn.Module):
    """y = min(s, 2) x."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return x * self.scale.clamp(max=2.0)


def test_by_hand() -> None:
    """A scale of 3 under a clamp at 2 is one error, with its numbers; a scale of 1 is none."""
    report = audit(Clamped(3.0), torch.ones(2, 3))

    assert [(item.code, item.where) for item in report.findings] == [("init-outside-bound", "scale")]
    item = report.findings[0]
    assert str(item.evidence) == (
        "factor, value 3; gradient exactly 0 at all 3 steps; value 3 outside the bounds [-inf, 2] of clamp"
    )
    assert item.numbers == {"value": 3.0, "steps": 3}
    assert not report.ok
    assert audit(Clamped(1.0), torch.ones(2, 3)).findings == ()


def test_the_package_is_the_function() -> None:
    """`semalign.audit(model, batch)` is the audit."""
    room: Any = semalign.audit

    assert room(Clamped(3.0), torch.ones(2, 3)).findings[0].code == "init-outside-bound"


def test_json_has_the_contracts_keys() -> None:
    """The report is plain JSON: findings with code, severity, where, evidence, fix and more."""
    value = json.loads(json.dumps(audit(Clamped(3.0), torch.ones(2, 3)).to_dict(), allow_nan=False))

    assert set(value) == {"format", "findings", "counts", "ok", "facts"}
    finding = value["findings"][0]
    assert {"code", "severity", "where", "evidence", "fix", "consequence", "places", "declared"} <= set(finding)
    assert (finding["severity"], finding["where"], value["ok"]) == ("error", "scale", False)
    assert value["counts"] == {"error": 1, "warning": 0, "note": 0}


def test_batches_by_kind() -> None:
    """A tuple is spread over positions, a mapping over keywords, anything else is the only argument."""

    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, *args: Any, **kwargs: Any) -> Tensor:
            value = args[0] if args else kwargs["x"]
            value = value[0] if isinstance(value, list) else value
            y: Tensor = self.fc(value) * len(args or kwargs)
            return y

    x = torch.ones(2, 3)
    for batch in ((x,), {"x": x}, x, [x]):
        assert audit(Keyword(), batch).findings == ()


def test_layers_alike_are_one_finding() -> None:
    """Repeated layers share a finding whose text names each place; other modules keep their own."""
    report = make_report(
        [
            Finding("wakes-up", ("blocks.0.gate",), say("audit.watch.woke-up", step=1)),
            Finding("never-used", ("blocks.1.gate",), say("audit.watch.woke-up", step=2)),
            Finding("wakes-up", ("blocks.10.gate",), say("audit.watch.woke-up", step=3)),
            Finding("wakes-up", ("head.gate",), say("audit.watch.woke-up", step=4)),
            Finding("wakes-up", ("gates[3]",), say("audit.watch.woke-up", step=5)),
        ]
    )

    assert [(item.code, item.places) for item in report.findings] == [
        ("never-used", ("blocks.1.gate",)),
        ("wakes-up", ("blocks.0.gate", "blocks.10.gate")),
        ("wakes-up", ("head.gate",)),
        ("wakes-up", ("gates[3]",)),
    ]
    assert report.findings[1].where == "blocks.0.gate, blocks.10.gate"
    many = Finding("wakes-up", tuple(f"b.{n}" for n in range(11)), say("audit.watch.woke-up", step=24))
    assert many.where.endswith("b.7 and 3 more")


def test_declared_findings_are_not_fatal() -> None:
    """What the owner declares stays in the report and does not make it fail."""
    report = audit(Clamped(3.0), torch.ones(2, 3), declared=lambda item: item.code == "init-outside-bound")

    assert report.ok
    assert report.findings[0].declared
    assert "(declared)" in str(report)


def test_lowest_entropy_by_hand() -> None:
    """With weights 1/2, 1/4, 1/4 the entropy is 1.5 log 2; the scale for it is the inverse."""
    reach = math.log(2) / 2

    assert lowest_entropy(reach, 3) == pytest.approx(1.5 * math.log(2) / math.log(3))
    assert scale_for_entropy(lowest_entropy(reach, 3), 3) == pytest.approx(reach)
    assert lowest_entropy(0.0, 7) == pytest.approx(1.0)
    assert lowest_entropy(1000.0, 7) == pytest.approx(0.0, abs=1e-100)


def test_projection_loss_takes_all_outputs() -> None:
    """Every floating-point output has a gradient; masked entries of -inf are left out, integers too."""
    a, b = torch.randn(2, 3, requires_grad=True), torch.randn(5, requires_grad=True)
    masked = b.masked_fill(torch.tensor([True, False, False, False, False]), -torch.inf)

    projection_loss({"a": (a, torch.ones(2, dtype=torch.long)), "b": [masked]}).backward()  # type: ignore[no-untyped-call]

    assert a.grad is not None
    assert b.grad is not None
    assert bool((a.grad != 0).all())
    assert (b.grad != 0).tolist() == [False, True, True, True, True]
    assert len(list(flatten_outputs({"a": (a, None), "b": [b, 3]}))) == 2


def test_messages() -> None:
    """What cannot be audited is said in one sentence."""
    with pytest.raises(ConfigError, match=r"a model of type function, expected a torch\.nn\.Module"):
        audit(lambda: None, torch.ones(1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"an optimizer of type dict, expected a torch\.optim\.Optimizer"):
        audit(Clamped(1.0), torch.ones(1), {})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="steps=1, expected at least 2"):
        audit(Clamped(1.0), torch.ones(1), steps=1)
    with pytest.raises(ConfigError, match=r"cannot be called with the batch \(TypeError: .*expected a tuple"):
        audit(Clamped(1.0), (torch.ones(1), torch.ones(1)))
    with pytest.raises(ConfigError, match="the model's output holds no floating-point tensor"):
        audit(nn.Identity(), torch.ones(1, dtype=torch.long))
    with pytest.raises(ConfigError, match=r"the loss returned shape \(3,\), expected a tensor with one number"):
        audit(Clamped(1.0), torch.ones(3), loss=lambda y: y)


def test_names_are_hints() -> None:
    """Names of knobs and of learnable things are told from others."""
    assert all(map(is_hint, ("logit_scale", "temperature", "gamma", "attn_gate", "alpha", "tau", "layer_scale")))
    assert not any(map(is_hint, ("cls_token", "pos_embed", "bias", "mask_token", "running_mean", "weight")))
    assert asks_to_learn("learnable_temp")
    assert asks_to_learn("trainable")
    assert not asks_to_learn("learning_rate")


def test_mentioned_looks_at_code_beyond_the_set_up() -> None:
    """An attribute that only __init__ names is not mentioned; torch's own classes have no say."""
    assert mentioned(Clamped(1.0), "scale") is True
    assert mentioned(Clamped(1.0), "other") is False
    assert mentioned(nn.Linear(2, 3), "weight") is None


def test_loose_tensors_have_paths() -> None:
    """Tensors in lists, mappings, objects and loose modules are found; parameters, buffers and integers are not."""
    model = nn.Module()
    model.own = nn.Parameter(torch.ones(2))
    model.register_buffer("kept", torch.ones(3))
    vars(model)["gates"] = [nn.Parameter(torch.ones(5)), model.own]
    vars(model)["by_name"] = {"a": torch.ones(7), "n": torch.ones(2, dtype=torch.long)}
    vars(model)["made"] = torch.ones(11, requires_grad=True) * 2
    vars(model)["layers"] = [nn.Linear(2, 3)]

    found = {(item.path, item.home, item.kind) for item in loose_tensors(model)}

    assert found == {
        ("gates[0]", "", "parameter"),
        ("by_name[a]", "", "plain"),
        ("made", "", "derived"),
        ("layers[0].weight", "layers[0]", "parameter"),
        ("layers[0].bias", "layers[0]", "parameter"),
    }
