"""`semalign bench alignment`: what it compares, counted; nothing here is timed."""

from typing import Any

import pytest
import torch

from semalign.bench import alignment as bench
from semalign.bench.alignment import (
    alignment_tables,
    bare_products,
    bench_alignment,
    lean_attention,
    lean_block,
    markdown,
)
from semalign.bench.counting import Counts, count
from semalign.bench.machine import Machine
from semalign.model.alignment import Alignment, DecoderAlignment, EncoderAlignment

TEXT_DIM = 11


@pytest.mark.parametrize("kind", [EncoderAlignment, DecoderAlignment])
@pytest.mark.parametrize("shared", [True, False])
def test_the_yardstick_is_the_same_function(kind: type[Alignment], shared: bool) -> None:
    """The lean form gives our modules' numbers and gradients, with our modules' weights."""
    torch.manual_seed(0)
    site: Any = kind(26, TEXT_DIM, 2, form="reference").double()
    x = torch.randn(3, 17, 26, dtype=torch.float64, requires_grad=True)
    text = torch.randn(*(() if shared else (3,)), 7, TEXT_DIM, dtype=torch.float64)

    grads = [
        (y.detach(), *torch.autograd.grad(y.sin().sum(), [x, *site.parameters()]))
        for y in (site(x, text), lean_block(site, x, text))
    ]

    for ours, lean in zip(*grads, strict=True):
        torch.testing.assert_close(ours, lean, rtol=1e-10, atol=1e-10)


def test_the_yardstick_is_lean() -> None:
    """It takes the operations of its formula and no more, and keys of a shared text once."""
    n, t, c = 53, 5, 26
    site = EncoderAlignment(c, TEXT_DIM, 2)
    x, text = torch.randn(3, n, c), torch.randn(t, TEXT_DIM)
    with torch.no_grad():
        found = count(lambda: lean_attention(site, x, x, text))

    assert found.flops == 2 * (2 * 3 * n * c * c + 2 * t * TEXT_DIM * c + 2 * 3 * n * t * c)


def test_the_bare_products() -> None:
    """Forward they are two products, forward and backward six."""
    x, m, u = torch.randn(1, 17, 26), torch.randn(1, 26, 14), torch.randn(1, 14, 26)
    for tensor in (x, m, u):
        tensor.requires_grad_()

    assert count(lambda: bare_products(x, m, u)).flops == 2 * 2 * 17 * 26 * 14
    assert count(lambda: bare_products(x, m, u).sum().backward()).flops == 6 * 2 * 17 * 26 * 14  # type: ignore[no-untyped-call]


def training(site: Any, x: torch.Tensor, text: torch.Tensor) -> Any:
    """Return one forward and backward through our module and one through the yardstick, counted."""
    x.requires_grad_()
    dy = torch.randn_like(x)
    ours = count(bench._training(lambda: site(x, text), dy, [x, *site.parameters()]))
    return ours, count(bench._training(lambda: lean_block(site, x, text), dy, [x, *site.parameters()]))


def test_memory_stays_below_the_yardsticks() -> None:
    """At T = 40 and N = 4800 the folded form's peak, forward and backward, is at most 0.6 of the lean form's."""
    site = EncoderAlignment(128, 384, 4, form="folded")

    ours, lean = training(site, torch.randn(4, 4800, 128), torch.randn(40, 384))

    assert ours.peak_bytes <= 0.6 * lean.peak_bytes


@pytest.mark.parametrize(("channels", "heads", "positions"), bench.SITES)
def test_operations_fall(channels: int, heads: int, positions: int) -> None:
    """At six tokens the folded form takes less than a quarter of the lean form's operations and half its traffic."""
    site = EncoderAlignment(channels, 384, heads)

    ours, lean = training(site, torch.randn(1, positions, channels), torch.randn(6, 384))

    assert ours.flops < 0.3 * lean.flops
    assert ours.bytes_touched < 0.8 * lean.bytes_touched


def test_everything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run gives machine, encoder, decoder and growth as plain numbers, and every table prints them."""
    for name, value in {
        "SITES": ((8, 2, 13),),
        "TOKENS": (1, 6),
        "DECODER_TOKENS": (3,),
        "POSITIONS_GROWTH": (5, 7),
        "TOKENS_GROWTH": (2, 3),
        "MASKED_GROWTH": (0, 5),
    }.items():
        monkeypatch.setattr(bench, name, value)
    machine = Machine("a processor", 1, "2", 100.0, 10.0)
    monkeypatch.setattr(bench, "measure_machine", lambda rounds: machine)
    monkeypatch.setattr(bench, "DECODER_SITE", (8, 2))
    monkeypatch.setattr(bench, "DECODER_POSITIONS", (11,))
    said: list[str] = []

    found = bench_alignment(progress=said.append)

    assert set(found) == {"format", "machine", "batch", "encoder", "decoder", "growth"}
    assert [(row["tokens"], row["texts"]) for row in found["encoder"]] == [(1, "shared"), (6, "shared"), (6, "own")]
    assert found["encoder"][0]["form"] in ("folded", "sdpa")
    masked = found["growth"]["masked"]
    assert masked[0]["flops"] == masked[1]["flops"]
    assert [table.title.split()[0] for table in alignment_tables(found)] == [
        "Encoder", "Encoder", "Decoder", "Growth", "Growth", "Sentences"
    ]  # fmt: skip
    assert markdown(found).startswith("a processor, 1 threads")
    assert all(len(row) == len(table.columns) for table in alignment_tables(found) for row in table.rows)
    assert said[0] == "machine"


def test_the_floor() -> None:
    """The least time is the longer of the products at the peak and of the bytes that have to move."""
    machine = Machine("a processor", 1, "2", gemm_gflops=100.0, copy_gb_per_s=10.0)
    counts = Counts(flops=int(2e9), bytes_touched=0, peak_bytes=0, kernels=0)

    assert bench._floor_seconds(counts, 10**8, machine) == pytest.approx(0.02)
    assert bench._floor_seconds(counts, 10**9, machine) == pytest.approx(0.1)
