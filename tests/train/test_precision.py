"""Number formats and the compiler."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import nn

from semalign.errors import ConfigError
from semalign.train import precision
from semalign.train.precision import Precision, autocast, choose_precision, compiled, has_native_bf16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("wanted", "native", "agreed", "expected"),
    [
        ("float32", True, True, "float32"),
        ("bf16", True, False, "bf16"),
        # Hardware alone is not enough for auto, nor is an agreement found on other hardware.
        ("auto", True, False, "float32"),
        ("auto", False, True, "float32"),
        ("auto", True, True, "bf16"),
    ],
)
def test_what_is_chosen(
    wanted: Precision | Literal["auto"], native: bool, agreed: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Auto takes bf16 where the hardware has it and scores have been found to agree there."""
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: native)
    monkeypatch.setattr(precision, "AGREED", frozenset({"cpu"} if agreed else ()))

    assert choose_precision(wanted, CPU) == expected


def test_bf16_without_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulation would be slower than float32: it is refused in one sentence."""
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: False)

    with pytest.raises(
        ConfigError, match=r"train\.precision=bf16, but this machine's cpu has no bf16 in hardware, .*: "
    ):
        choose_precision("bf16", CPU)


@pytest.mark.parametrize(("bf16", "amx", "expected"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_hardware(bf16: int, amx: int, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor has bf16 by AVX-512 or by its matrix unit; a kind that is not known has none."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(bf16))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))

    assert has_native_bf16(CPU) is expected
    assert not has_native_bf16(torch.device("meta"))


def test_autocast_changes_products_alone() -> None:
    """In bf16 products are rounded and weights stay float32; in float32 nothing is changed."""
    layer, x = nn.Linear(5, 3), torch.randn(2, 5)

    with autocast("float32", CPU):
        plain = layer(x)
    with autocast("bf16", CPU):
        short = layer(x)

    assert torch.equal(plain, layer(x))
    assert short.dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32
    torch.testing.assert_close(short.float(), plain, rtol=0.05, atol=0.05)


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever torch.compile raises becomes one sentence that names the option."""

    def broken(function: Any) -> Any:
        def call(*args: Any) -> Any:
            raise RuntimeError("No working C++ compiler found in\n  config.cpp.cxx: (None, 'g++')")

        return call

    monkeypatch.setattr(torch, "compile", broken)

    with pytest.raises(
        ConfigError,
        match=r"train\.compile=true, but torch\.compile does not work here \(No working C\+\+ compiler found in",
    ):
        compiled(nn.Linear(2, 3), CPU)


def test_a_compiled_model_shares_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training the compiled model trains the model itself."""
    real = torch.compile

    # Dynamo without a backend: the same path, without a compiler.
    monkeypatch.setattr(torch, "compile", lambda target: real(target, backend="eager"))
    layer = nn.Linear(2, 3)

    model = compiled(layer, CPU)

    x = torch.randn(5, 2)
    assert torch.equal(model(x), layer(x))
    assert {id(parameter) for parameter in model.parameters()} == {id(parameter) for parameter in layer.parameters()}
