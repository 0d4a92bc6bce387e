"""`semalign bench alignment`: our alignment against a lean unfolded form and against its own two bare products.

The lean form is the yardstick: linear maps, torch's fused attention, a linear map with the gate in its weights, and the
residual sum, without a copy that could be avoided.  It has the weights of our modules and computes the same.
"""

from __future__ import annotations

import dataclasses
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from semalign.bench.counting import Counts, count
from semalign.bench.machine import Machine, measure_machine
from semalign.bench.tables import Cell, Columns, Row, Table, markdown_tables, table_of
from semalign.bench.timing import clock_of, ratio, seconds, take_turns
from semalign.model.alignment import Alignment, DecoderAlignment, EncoderAlignment, SingleTokenWarning
from semalign.model.feed_forward import add_feed_forward

__all__ = [
    "BATCH",
    "SITES",
    "TEXT_DIM",
    "alignment_tables",
    "bare_products",
    "bench_alignment",
    "lean_attention",
    "lean_block",
    "machine_line",
    "markdown",
]

SITES = ((128, 4, 4800), (256, 8, 1200), (512, 16, 300))
"""Channels, heads and positions of the three encoder sites of a 240 x 320 image."""
BATCH = 4
TEXT_DIM = 384
TOKENS = (1, 2, 3, 6, 11, 16, 24, 32, 40, 56, 77, 110, 150)
QUICK_TOKENS = (1, 6, 11, 40, 150)
DECODER_SITE = (128, 4)
DECODER_POSITIONS = (4800, 1200, 300)
DECODER_TOKENS = (6, 11, 40)
POSITIONS_GROWTH = (30, 100, 300, 1000, 3000, 10000, 30000)
TOKENS_GROWTH = (1, 3, 10, 30, 100, 300, 1000)
MASKED_GROWTH = (0, 6, 34, 100, 300, 1000)


# ---- the yardstick ----


def lean_attention(site: Alignment, stream: Tensor, source: Tensor, text: Tensor) -> Tensor:
    """Return stream + branch(source) with the weights of ``site``, unfolded.

    Args:
        site: an alignment without top-k.
        stream: batch x positions x channels.
        source: what the queries are made of, likewise.
        text: tokens x width shared by all images, or batch x tokens x width.
    """
    batch, positions, channels = source.shape
    heads = site.heads
    if text.ndim == 2:
        # One list of positions: keys and values of a shared text are not repeated per image.
        source, text = source.reshape(1, -1, channels), text.unsqueeze(0)

    def split(rows: Tensor) -> Tensor:
        return rows.view(*rows.shape[:2], heads, -1).transpose(1, 2)

    query, key, value = (
        split(layer(x)) for layer, x in zip((site.q_proj, site.k_proj, site.v_proj), (source, text, text), strict=True)
    )
    scale = site.temperature().reshape(-1, 1, 1)
    if site.knobs.similarity == "cosine":
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
    mixed = F.scaled_dot_product_attention(query, key * scale, value, scale=1.0)
    mixed = mixed.transpose(1, 2).reshape(batch, positions, channels)
    gate = site.gate()
    return stream + F.linear(mixed, gate * site.o_proj.weight, gate * site.o_proj.bias)


def lean_block(site: Alignment, x: Tensor, text: Tensor) -> Tensor:
    """Return the whole alignment, norms and FFN included, around `lean_attention`."""
    if not isinstance(site, DecoderAlignment):
        return lean_attention(site, x, x, text)
    z = lean_attention(site, x, site.norm1(x), text)
    y: Tensor = z + site.ffn(site.norm2(z))
    return y


def bare_products(x: Tensor, m: Tensor, u: Tensor) -> Tensor:
    """Return X M U: what the folded form cannot do without."""
    return (x @ m) @ u


# ---- measuring ----


def bench_alignment(
    *, quick: bool = False, progress: Callable[[str], None] = lambda what: None, growth: bool = True
) -> dict[str, Any]:
    """Measure everything `semalign bench alignment` shows.

    Args:
        quick: fewer rounds, token counts and no growth; for a first look.
        progress: called with what is being measured.
        growth: also the growth in positions, tokens and masked-out sentences.

    Returns:
        ``{format, machine, encoder, decoder, growth}`` of plain numbers, float32 throughout.  Times are medians in
        milliseconds, the thread's own time with one thread, else the wall's; a ratio is the median over rounds of lean
        / ours (above 1: ours is faster).
    """
    rounds = 5 if quick else 15
    progress("machine")
    machine = measure_machine(rounds=rounds)
    encoder: list[dict[str, Any]] = []
    decoder: list[dict[str, Any]] = []
    with _quietly():
        for channels, heads, positions in SITES:
            for tokens in QUICK_TOKENS if quick else TOKENS:
                for own in (False, True) if tokens in (6, 40) and not quick else (False,):
                    progress(f"encoder {channels} x {positions}, {tokens} tokens")
                    encoder.append(_encoder_row(channels, heads, positions, tokens, own, rounds, machine))
        for positions in DECODER_POSITIONS:
            for tokens in (6,) if quick else DECODER_TOKENS:
                progress(f"decoder {DECODER_SITE[0]} x {positions}, {tokens} tokens")
                decoder.append(_decoder_row(*DECODER_SITE, positions, tokens, rounds))
        grown = _growth(rounds, progress) if growth and not quick else {}
    return {
        "format": 1,
        "machine": {**dataclasses.asdict(machine), "python": platform.python_version()},
        "batch": BATCH,
        "encoder": encoder,
        "decoder": decoder,
        "growth": grown,
    }


@contextmanager
def _quietly() -> Iterator[None]:
    # One token is measured on purpose.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingleTokenWarning)
        yield


def _turns(functions: dict[str, Callable[[], Tensor]], *, rounds: int) -> dict[str, list[float]]:
    return take_turns(functions, rounds=rounds, clock=clock_of(torch.get_num_threads()))


def _text(tokens: int, own: bool) -> Tensor:
    return torch.randn(BATCH, tokens, TEXT_DIM) if own else torch.randn(tokens, TEXT_DIM)


def _encoder_row(
    channels: int, heads: int, positions: int, tokens: int, own: bool, rounds: int, machine: Machine
) -> dict[str, Any]:
    torch.manual_seed(0)
    site = EncoderAlignment(channels, TEXT_DIM, heads)
    folded = EncoderAlignment(channels, TEXT_DIM, heads, form="folded")
    folded.load_state_dict(site.state_dict())
    x, text = torch.randn(BATCH, positions, channels, requires_grad=True), _text(tokens, own)
    dy = torch.randn(BATCH, positions, channels)
    texts = BATCH if own else 1
    m = torch.randn(texts, channels, heads * tokens, requires_grad=True)
    u = torch.randn(texts, heads * tokens, channels, requires_grad=True)
    rows = x.detach().reshape(texts, -1, channels).requires_grad_()
    functions: dict[str, Callable[[], Tensor]] = {
        "lean": lambda: lean_block(site, x, text),
        "auto": lambda: site(x, text),
        "folded": lambda: folded(x, text),
        "products": lambda: bare_products(rows, m, u),
    }
    torch.testing.assert_close(functions["auto"](), functions["lean"](), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(functions["folded"](), functions["lean"](), rtol=1e-4, atol=1e-4)
    leaves = [x, m, u, rows, *site.parameters(), *folded.parameters()]
    train = _turns({name: _training(function, dy, leaves) for name, function in functions.items()}, rounds=rounds)
    forward = _turns({name: _inference(function) for name, function in functions.items()}, rounds=rounds)
    counts = {name: count(_training(functions[name], dy, leaves)) for name in ("lean", "auto", "folded")}
    form = "folded" if counts["auto"] == counts["folded"] else "sdpa"
    floor = _floor_seconds(counts["auto"], 5 * x.numel() * x.itemsize, machine)
    return {
        "channels": channels,
        "heads": heads,
        "positions": positions,
        "tokens": tokens,
        "texts": "own" if own else "shared",
        "form": form,
        "train_ms": {name: 1e3 * seconds(times) for name, times in train.items()},
        "inference_ms": {name: 1e3 * seconds(times) for name, times in forward.items()},
        "train_ratio": ratio(train["lean"], train["auto"]),
        "train_ratio_folded": ratio(train["lean"], train["folded"]),
        "inference_ratio": ratio(forward["lean"], forward["auto"]),
        "inference_ratio_folded": ratio(forward["lean"], forward["folded"]),
        "over_products": ratio(train["folded"], train["products"]),
        "counts": {name: dataclasses.asdict(found) for name, found in counts.items()},
        "peak_bytes_ratio_folded": counts["folded"].peak_bytes / counts["lean"].peak_bytes,
        "gflops": counts["auto"].flops / seconds(train["auto"]) / 1e9,
        "share_of_gemm_peak": counts["auto"].flops / seconds(train["auto"]) / 1e9 / machine.gemm_gflops,
        "floor_ms": 1e3 * floor,
        "over_floor": seconds(train["auto"]) / floor,
    }


def _floor_seconds(counts: Counts, compulsory_bytes: int, machine: Machine) -> float:
    """Return the least time: all products at the measured peak, or x, dy, y and dx moved once, whichever is longer."""
    return max(counts.flops / machine.gemm_gflops, compulsory_bytes / machine.copy_gb_per_s) / 1e9


def _decoder_row(channels: int, heads: int, positions: int, tokens: int, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    site = DecoderAlignment(channels, TEXT_DIM, heads)
    x, text = torch.randn(BATCH, positions, channels, requires_grad=True), _text(tokens, own=False)
    dy = torch.randn(BATCH, positions, channels)
    functions: dict[str, Callable[[], Tensor]] = {
        "lean attention": lambda: lean_attention(site, x, site.norm1(x), text),
        "our attention": lambda: site._align(x, site.norm1(x), text.unsqueeze(0), None),
        "lean block": lambda: lean_block(site, x, text),
        "our block": lambda: site(x, text),
        "ffn": lambda: add_feed_forward(x, site.norm2, site.ffn),
    }
    torch.testing.assert_close(functions["our block"](), functions["lean block"](), rtol=1e-4, atol=1e-4)
    leaves = [x, *site.parameters()]
    calls = {name: _training(function, dy, leaves) for name, function in functions.items()}
    train = _turns(calls, rounds=rounds)
    forward = _turns({name: _inference(function) for name, function in functions.items()}, rounds=rounds)
    counts = {name: count(call) for name, call in calls.items()}
    return {
        "channels": channels,
        "heads": heads,
        "positions": positions,
        "tokens": tokens,
        "similarity": site.knobs.similarity,
        "train_ms": {name: 1e3 * seconds(times) for name, times in train.items()},
        "inference_ms": {name: 1e3 * seconds(times) for name, times in forward.items()},
        "attention_ratio": ratio(train["lean attention"], train["our attention"]),
        "block_ratio": ratio(train["lean block"], train["our block"]),
        "attention_inference_ratio": ratio(forward["lean attention"], forward["our attention"]),
        "block_inference_ratio": ratio(forward["lean block"], forward["our block"]),
        "ffn_share_of_time": ratio(train["ffn"], train["our block"]),
        "ffn_share_of_flops": counts["ffn"].flops / counts["our block"].flops,
        "counts": {name: dataclasses.asdict(found) for name, found in counts.items()},
    }


def _growth(rounds: int, progress: Callable[[str], None]) -> dict[str, list[dict[str, float]]]:
    """Time the folded form while one thing grows: positions, tokens, sentences that are masked out for every image."""
    torch.manual_seed(0)
    channels, heads = 128, 4
    site = EncoderAlignment(channels, TEXT_DIM, heads, form="folded")
    found: dict[str, list[dict[str, float]]] = {"positions": [], "tokens": [], "masked": []}

    def timed(positions: int, tokens: int, masked: int) -> dict[str, float]:
        x, text = torch.randn(BATCH, positions, channels, requires_grad=True), _text(tokens + masked, own=False)
        is_padding = torch.arange(tokens + masked) >= tokens if masked else None
        dy = torch.randn_like(x)
        call = _training(lambda: site(x, text, is_padding), dy, [x, *site.parameters()])
        times = _turns({"ours": call}, rounds=rounds)["ours"]
        counts = count(call)
        return {
            "positions": positions,
            "tokens": tokens,
            "masked": masked,
            "ms": 1e3 * seconds(times),
            "flops": counts.flops,
            "peak_bytes": counts.peak_bytes,
        }

    for positions in POSITIONS_GROWTH:
        progress(f"growth: {positions} positions")
        found["positions"].append(timed(positions, 11, 0))
    for tokens in TOKENS_GROWTH:
        progress(f"growth: {tokens} tokens")
        found["tokens"].append(timed(1200, tokens, 0))
    for masked in MASKED_GROWTH:
        progress(f"growth: {masked} masked sentences")
        found["masked"].append(timed(1200, 6, masked))
    return found


def _training(function: Callable[[], Tensor], dy: Tensor, leaves: Sequence[Tensor]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        y = function()
        y.backward(dy.view(y.shape))  # type: ignore[no-untyped-call]
        for leaf in leaves:
            leaf.grad = None
        return y

    return call


def _inference(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad():
            return function()

    return call


# ---- printing ----


def markdown(found: dict[str, Any]) -> str:
    """Return the tables of `bench_alignment` as Markdown, below a line about the machine."""
    return f"{machine_line(found)}\n\n{markdown_tables(alignment_tables(found))}"


def machine_line(found: dict[str, Any]) -> str:
    """Say in one line where it was measured, and what that machine can do at most."""
    machine = found["machine"]
    return (
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}, float32, batch "
        f"{found['batch']}; measured peaks: products {machine['gemm_gflops']:.0f} GFLOP/s, copy "
        f"{machine['copy_gb_per_s']:.0f} GB/s"
    )


def alignment_tables(found: dict[str, Any]) -> list[Table]:
    """Return the measurements as titled tables of text."""
    encoder, decoder = found["encoder"], found["decoder"]
    return [
        table_of("Encoder alignment, forward and backward (ratios: lean / ours)", _ENCODER, encoder),
        table_of("Encoder alignment, operations and bytes of one forward and backward", _COUNTS, encoder),
        table_of("Decoder alignment, forward and backward (cosine, the recommended preset)", _DECODER, decoder),
        *(
            table_of(_GROWTH_TITLES[name], [(name, _number(name, digits=0)), *_GROWTH], rows)
            for name, rows in found["growth"].items()
        ),
    ]


def _site(row: Row) -> str:
    own = ", own texts" if row.get("texts") == "own" else ""
    return f"{row['channels']}, {row['heads']}, {row['positions']}{own}"


def _milliseconds(kind: str) -> Cell:
    return lambda row: f"{row['train_ms'][kind]:.2f}"


def _number(name: str, factor: float = 1, digits: int = 2) -> Cell:
    return lambda row: f"{factor * row[name]:.{digits}f}"


def _count(kind: str, name: str, unit: float, digits: int) -> Cell:
    return lambda row: f"{row['counts'][kind][name] / unit:.{digits}f}"


_SITE_COLUMNS: Columns = [("C, H, N", _site), ("T", lambda row: str(row["tokens"]))]
_ENCODER: Columns = [
    *_SITE_COLUMNS,
    ("form", lambda row: str(row["form"])),
    ("lean ms", _milliseconds("lean")),
    ("ours ms", _milliseconds("auto")),
    ("ratio", _number("train_ratio")),
    ("if folded", _number("train_ratio_folded")),
    ("over products", _number("over_products")),
    ("forward, cached", _number("inference_ratio")),
]
_COUNTS: Columns = [
    *_SITE_COLUMNS,
    ("GFLOP lean", _count("lean", "flops", 1e9, 2)),
    ("ours", _count("auto", "flops", 1e9, 2)),
    ("MB touched lean", _count("lean", "bytes_touched", 1e6, 0)),
    ("ours", _count("auto", "bytes_touched", 1e6, 0)),
    ("peak MB lean", _count("lean", "peak_bytes", 1e6, 1)),
    ("folded", _count("folded", "peak_bytes", 1e6, 1)),
    ("share", _number("peak_bytes_ratio_folded")),
    ("% of peak", _number("share_of_gemm_peak", 100, 0)),
    ("over floor", _number("over_floor")),
]
_DECODER: Columns = [
    *_SITE_COLUMNS,
    ("attention lean ms", _milliseconds("lean attention")),
    ("ours ms", _milliseconds("our attention")),
    ("ratio", _number("attention_ratio")),
    ("block lean ms", _milliseconds("lean block")),
    ("ours ms", _milliseconds("our block")),
    ("ratio", _number("block_ratio")),
    ("FFN % of time", _number("ffn_share_of_time", 100, 0)),
    ("FFN % of FLOP", _number("ffn_share_of_flops", 100, 0)),
]
_GROWTH: Columns = [
    ("ms", _number("ms", digits=3)),
    (
        "ns per position and token",
        lambda row: f"{1e6 * row['ms'] / (BATCH * row['positions'] * row['tokens']):.1f}",
    ),
    ("MFLOP", _number("flops", 1e-6, 1)),
    ("peak MB", _number("peak_bytes", 1e-6)),
]
_GROWTH_TITLES = {
    "positions": "Growth in positions (C = 128, H = 4, T = 11)",
    "tokens": "Growth in tokens (C = 128, H = 4, N = 1200)",
    "masked": "Sentences masked out for every image (C = 128, H = 4, N = 1200, T = 6)",
}
