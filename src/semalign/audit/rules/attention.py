"""Faults of attention, and how strong temperatures and gates are in fact."""

from __future__ import annotations

import math
from collections.abc import Iterator

from semalign.audit.describe import place
from semalign.audit.evidence.gathered import Evidence
from semalign.audit.evidence.records import HALF_MAX
from semalign.audit.evidence.sharpness import scale_for_entropy, sharpest_entropies
from semalign.audit.rules.rule import Hit
from semalign.wording import say

UNIFORM = 0.99
"""Normalised entropy above which an attention counts as uniform."""
STILL_UNIFORM = 0.9
"""The same for its sharpest row at any value of its knobs."""


def near_uniform_attention(evidence: Evidence) -> Iterator[Hit]:
    """Find attention that is almost uniform and cannot be made sharp by its scale."""
    sites = evidence.trace.flow.sites
    suspects = [
        index
        for index, site in enumerate(sites)
        if site.is_attention and site.is_cosine and site.entropy > UNIFORM and site.tokens > 1
    ]
    if not suspects:
        return
    sharpest = sharpest_entropies(evidence, suspects)
    for index in suspects:
        if sharpest[index] < STILL_UNIFORM:
            continue
        site, knobs = sites[index], tuple(evidence.trace.names_of(sites[index].knobs))
        numbers = {
            "entropy": site.entropy,
            "reach": site.reach,
            "sharpest": sharpest[index],
            "scale_for_half": scale_for_entropy(0.5, site.tokens),
        }
        key = "audit.near-uniform-attention.knobs" if knobs else "audit.near-uniform-attention.plain"
        yield Hit((site.path,), say(key, tokens=site.tokens, knobs=knobs, **numbers), numbers)


def rows_without_text(evidence: Evidence) -> Iterator[Hit]:
    """Find attention rows with every token masked."""
    for site in evidence.trace.flow.sites:
        if site.empty_rows and (site.is_attention or not math.isnan(site.reach)):
            why = say("audit.rows-without-text.seen", empty=site.empty_rows, rows=site.rows)
            yield Hit((site.path,), why, {"rows": site.empty_rows})


def mask_then_scale(evidence: Evidence) -> Iterator[Hit]:
    """Find masks that are put in before the learnable scale multiplies the scores."""
    trace = evidence.trace
    for bits, path, low in trace.flow.masked_products:
        for name in trace.names_of(bits):
            if any(trace.bit(name) & site.knobs for site in trace.flow.sites):
                yield Hit((name,), say("audit.mask-then-scale.seen", low=low, where=place(path)))


def half_overflow(evidence: Evidence) -> Iterator[Hit]:
    """Find numbers that do not fit into float16."""
    flow = evidence.trace.flow
    found = list(flow.overflow)
    for site in flow.sites:
        found += [(site.path, size) for size in (site.largest, -site.lowest) if HALF_MAX < size < math.inf]
    worst: dict[str, float] = {}
    for path, size in found:
        worst[path] = max(worst.get(path, 0.0), size)
    for path, size in worst.items():
        key = "audit.half-overflow.larger" if math.isfinite(size) else "audit.half-overflow.inf"
        yield Hit((path,), say(key, size=size, largest=HALF_MAX), {"size": size})


def single_token(evidence: Evidence) -> Iterator[Hit]:
    """Find attention over a single token."""
    for site in evidence.single_token_sites:
        knobs = tuple(tensor.name for tensor in evidence.learnable_of(site.knobs))
        key = "audit.single-token.knobs" if knobs else "audit.single-token.plain"
        yield Hit((site.path,), say(key, n=site.rows, knobs=knobs), {"tokens": 1})


def effective_scale(evidence: Evidence) -> Iterator[Hit]:
    """Return how sharp an attention is in fact: scale·|q||k|."""
    seen = set()
    for site in evidence.trace.flow.sites:
        knobs = tuple(t.name for t in evidence.learnable_of(site.knobs) if t.is_knob)
        if not (site.is_attention and knobs and math.isfinite(site.reach)) or (site.path, *knobs) in seen:
            continue
        seen.add((site.path, *knobs))
        half = scale_for_entropy(0.5, site.tokens)
        numbers = {"reach": site.reach, "entropy": site.entropy, "scale_for_half": half}
        yield Hit(
            knobs, say("audit.effective-scale.seen", where=place(site.path), tokens=site.tokens, **numbers), numbers
        )


def effective_gate(evidence: Evidence) -> Iterator[Hit]:
    """Return how strong a branch is in fact: |g·a|/|x|."""
    seen = set()
    for branch in evidence.trace.flow.branches:
        knobs = tuple(t.name for t in evidence.learnable_of(branch.knobs) if t.is_knob and not t.sites)
        if knobs and (branch.path, *knobs) not in seen:
            seen.add((branch.path, *knobs))
            why = say("audit.effective-gate.seen", strength=branch.strength, where=place(branch.path))
            yield Hit(knobs, why, {"strength": branch.strength})
