"""What becomes of the tensors that are made from the batch: factors, scores, softmaxes, residual additions.

`semalign.audit.evidence.trace.Trace` passes it each operation.  It judges nothing.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from semalign.audit.evidence.records import HALF_MAX, SMALL, Branch, Site, is_small, words

MASKED = -1e4
"""Attention scores from here down are masked; nothing else is as low."""

_ROWS = 512

# Operations by what becomes of a factor that was multiplied into their input.
_KEEPS_FACTOR = words(
    "_to_copy _unsafe_view add add_ cat clamp clamp_ clamp_max clamp_min clone constant_pad_nd copy_ div div_ gather "
    "index index_put index_put_ masked_fill masked_fill_ maximum minimum mul mul_ native_dropout neg repeat roll rsub "
    "slice_scatter stack sub sub_ where"
)
_KEEPS_ATTENTION = words("_to_copy _unsafe_view add clone div div_ masked_fill mul mul_ native_dropout where")
_PRODUCTS = words("bmm mm baddbmm addmm dot mv addmv")
_FACTORS = words("mul mul_ div div_ addcmul lerp")
_SUMS = words("add add_ sub sub_")
_SOFTMAXES = words("_softmax _log_softmax _safe_softmax")


@dataclasses.dataclass(frozen=True)
class Call:
    """One operation below autograd, at least one of whose inputs is made from the batch.

    Attributes:
        op: its name.
        args: its arguments by place.
        kwargs: its arguments by name.
        ins: the tensors among its arguments.
        keys: the storage of each of them, 0 where it has none.
        own: by input the watched tensors, by bit, that it is made from.
        data: by input whether it is made from the batch.
        out: its first output.
        out_keys: the storages of all outputs.
        path: the module whose forward runs.
    """

    op: str
    args: Any
    kwargs: Any
    ins: list[Tensor]
    keys: list[int]
    own: list[int]
    data: list[bool]
    out: Tensor
    out_keys: list[int]
    path: str


@dataclasses.dataclass(frozen=True)
class _Scores:
    """A product of queries and keys on its way to a softmax: |q||k| with all factors so far, and whether it bounds."""

    reach: float
    is_cosine: bool


_UNKNOWN = _Scores(math.nan, False)


class Flow:
    """Follows what is made from the batch through one forward.

    Attributes:
        multiplies: watched tensors, by bit, that multiply something made from the batch.
        sites: softmaxes in order.
        branches: residual additions of something that a watched tensor multiplies.
        masked_products: watched tensors, by bit, that multiply scores which are masked already, with the paths.
        overflow: (path, number) of numbers beyond float16 on the way into a softmax or out of an exp.
    """

    def __init__(self) -> None:
        self.multiplies: int = 0
        self.sites: list[Site] = []
        self.branches: list[Branch] = []
        self.masked_products: list[tuple[int, str, float]] = []
        self.overflow: list[tuple[str, float]] = []
        self._factors: dict[int, int] = {}
        self._gates: dict[int, int] = {}
        self._scores: dict[int, _Scores] = {}
        self._weights: dict[int, Site] = {}
        self._emptied = 0
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}

    def follow(self, call: Call) -> None:
        """Carry factors, scores and attention weights from an operation's inputs to its outputs."""
        is_product = call.op in _PRODUCTS and sum(call.data) >= 2
        # (q * k).sum(-1) is a product of queries and keys as well.
        is_summed = call.op == "sum" and call.keys[0] in self._pairs
        self._carry_factors(call, keeps=call.op in _KEEPS_FACTOR or is_product or is_summed)
        out_key, first = call.out_keys[0], call.keys[0]
        if "scaled_dot_product" in call.op or call.op.startswith(("_flash_attention", "_efficient_attention")):
            self._fused(call)
        elif call.op in _SOFTMAXES:
            axis = int(call.args[1]) if len(call.args) > 1 else -1
            self._weights[out_key] = self._softmaxed(call, axis)
        elif is_product:
            self._product(call)
        elif is_summed:
            self._summed(call)
        elif call.op == "exp" and first in self._scores and call.ins[0].ndim >= 2:
            # exp(s - max) / sum is a softmax by hand.
            site = self._softmaxed(call, -1)
            site.empty_rows = max(site.empty_rows, self._emptied)
            self._weights[out_key] = site
        elif call.op in ("amax", "max") and first in self._scores and call.out.is_floating_point():
            self._emptied = int((call.out == -math.inf).sum())
        else:
            self._carry_scores(call)

    def check_size(self, path: str, tensor: Tensor) -> None:
        """Note a number that does not fit into float16."""
        if tensor.dtype == torch.float16 and bool((tensor == math.inf).any()):
            self.overflow.append((path, math.inf))
            return
        finite = tensor[tensor.isfinite()] if tensor.numel() <= SMALL else tensor
        if finite.numel():
            largest = float(finite.abs().amax())
            if HALF_MAX < largest < math.inf:
                self.overflow.append((path, largest))

    # ---- factors ----

    def _carry_factors(self, call: Call, keeps: bool) -> None:
        factors = self._multiplied(call) if call.op in _FACTORS else 0
        if call.op in _SUMS and len(call.ins) >= 2:
            self._added(call)
        gates = factors
        if keeps:
            # A sum of two streams starts afresh as a branch; scores keep their factors when a mask is added.
            is_sum = call.op in _SUMS and sum(call.data) >= 2
            for key in call.keys:
                factors |= self._factors.get(key, 0)
                gates |= 0 if is_sum else self._gates.get(key, 0)
        for key in call.out_keys:
            if factors:
                self._factors[key] = self._factors.get(key, 0) | factors
            if gates or key in self._gates:
                self._gates[key] = gates

    def _multiplied(self, call: Call) -> int:
        """Return the watched tensors that a product brings in as a factor."""
        ins, keys = call.ins, call.keys
        is_pair = call.op == "mul" and len(ins) == 2 and all(call.data)
        if is_pair and all(t.is_floating_point() and t.ndim >= 3 for t in ins):
            self._pairs[call.out_keys[0]] = (ins[0].detach(), ins[1].detach())
        for key in keys:
            if key in self._weights and len(set(keys) - {0}) > 1:
                self._weights[key].is_mixture = True
        factors = 0
        for tensor, own, on_data in zip(ins, call.own, call.data, strict=True):
            if on_data or not is_small(tensor):
                continue
            factors |= own
            if own and tensor.requires_grad and call.op.startswith(("mul", "div")):
                other = next((t for t, d in zip(ins, call.data, strict=True) if d), None)
                if other is not None and other.dtype.is_floating_point and other.ndim >= 2:
                    low = float(other.amin())
                    if low <= MASKED:
                        self.masked_products.append((own, call.path, low))
        self.multiplies |= factors
        return factors

    def _added(self, call: Call) -> None:
        """Note x + g·a: two tensors of one shape that depend on the batch, of which a factor multiplies one."""
        a, b = call.ins[:2]
        if not all(call.data[:2]) or a.shape != b.shape or a.numel() <= 1 or not a.dtype.is_floating_point:
            return
        own = [self._gates.get(key, 0) for key in call.keys[:2]]
        for branch, stream, gates in ((b, a, own[1] & ~own[0]), (a, b, own[0] & ~own[1])):
            if gates:
                below = float(stream.detach().float().norm())
                strength = float(branch.detach().float().norm()) / below if below > 0 else math.nan
                self.branches.append(Branch(call.path, gates, strength))

    # ---- scores and attention weights ----

    def _product(self, call: Call) -> None:
        """Note a product of two tensors that depend on the batch: attention over values, or scores of q and k."""
        pair = [(t, k) for t, k in zip(call.ins, call.keys, strict=True) if k][-2:]
        for _, key in pair:
            site = self._weights.get(key)
            if site is not None:
                site.is_attention = True
                return
        q, k = pair[0][0], pair[1][0]
        if q.ndim < 2 or k.ndim < 2 or not q.dtype.is_floating_point:
            return
        self._scores[call.out_keys[0]] = _measure(q, k.transpose(-1, -2), 1.0)
        self.check_size(call.path, call.out.detach())

    def _summed(self, call: Call) -> None:
        """Note scores of q and k that are multiplied entry by entry and summed over one axis."""
        q, k = self._pairs[call.keys[0]]
        axes = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
        axes = [axes] if isinstance(axes, int) else axes
        if not axes or len(axes) != 1 or q.ndim != k.ndim:
            return
        lengths = [t.float().norm(dim=axes[0]).flatten() for t in (q, k)]
        reach = float(lengths[0].mean() * lengths[1].mean())
        self._scores[call.out_keys[0]] = _Scores(reach, all(_one_length(length) for length in lengths))
        self.check_size(call.path, call.out.detach())

    def _carry_scores(self, call: Call) -> None:
        for key in call.keys:
            if key in self._weights and call.op in _KEEPS_ATTENTION:
                self._weights[call.out_keys[0]] = self._weights[key]
            if key in self._scores and call.op in _KEEPS_FACTOR:
                scores = self._scores[key]
                self._scores[call.out_keys[0]] = _Scores(scores.reach * _factor(call, key), scores.is_cosine)

    def _softmaxed(self, call: Call, axis: int) -> Site:
        scores, key = call.ins[0].detach(), call.keys[0]
        rows = scores.movedim(axis, -1).reshape(-1, scores.shape[axis]) if scores.ndim else scores.reshape(1, 1)
        site = _site(call.path, rows, self._factors.get(key, 0), self._scores.get(key, _UNKNOWN))
        self.sites.append(site)
        if not call.op.startswith("_log"):
            self.check_size(call.path, rows[rows > MASKED] if rows.numel() <= SMALL else rows.clamp(min=MASKED))
        return site

    def _fused(self, call: Call) -> None:
        """Note an attention whose scores are made inside of one operation."""
        q, k = call.ins[:2]
        scale = call.kwargs.get("scale")
        scale = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
        knobs = 0
        for key in call.keys[:2]:
            knobs |= self._factors.get(key, 0)
        mask = call.kwargs.get("attn_mask", call.kwargs.get("attn_bias"))
        if mask is None and len(call.ins) > 3 and call.ins[3].dtype.is_floating_point:
            mask = call.ins[3]
        step = max(1, q.shape[-2] // _ROWS)
        scores = q[..., ::step, :].detach().float() @ k.detach().float().transpose(-1, -2) * scale
        if isinstance(mask, Tensor):
            if mask.shape[-2] > 1:
                mask = mask[..., ::step, :]
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        site = _site(call.path, scores.reshape(-1, scores.shape[-1]), knobs, _measure(q, k, scale))
        site.is_attention = True
        self.sites.append(site)
        self.check_size(call.path, scores.clamp(min=MASKED))


def _factor(call: Call, key: int) -> float:
    """Return what an operation multiplies scores with, NaN where it is not one factor."""
    if not call.op.startswith(("mul", "div")) or len(call.args) < 2:
        return 1.0
    other = call.args[1] if call.ins[0] is call.args[0] and call.keys[0] == key else call.args[0]
    factor = 1.0
    if isinstance(other, Tensor):
        factor = float(other.detach().abs().double().mean()) if is_small(other) else math.nan
    elif isinstance(other, (int, float)):
        factor = abs(float(other))
    if call.op.startswith("div"):
        return 1 / factor if factor else math.nan
    return factor


def _measure(q: Tensor, k: Tensor, factor: float) -> _Scores:
    """Return |q||k| of the largest head, and whether all rows have one length, within a head or over all heads."""
    q, k = q.detach(), k.detach()
    step = max(1, q.shape[-2] // _ROWS)
    lengths = [t.float().norm(dim=-1) for t in (q[..., ::step, :], k)]  # (..., rows)
    if lengths[0].ndim != lengths[1].ndim:
        return _UNKNOWN
    reach = float((lengths[0].mean(dim=-1) * lengths[1].mean(dim=-1)).max())
    return _Scores(reach * factor, all(_one_length(length) for length in lengths))


def _one_length(lengths: Tensor) -> bool:
    whole = [lengths]
    if lengths.ndim >= 3:
        whole.append(lengths.pow(2).sum(dim=-2).sqrt())
    for rows in whole:
        kept = rows[..., (rows > 0).reshape(-1, rows.shape[-1]).any(dim=0)]
        if kept.numel() == 0 or kept.shape[-1] < 2:
            continue
        spread = kept.std(dim=-1) / kept.mean(dim=-1).clamp(min=1e-30)
        if float(spread.max()) < 1e-3:
            return True
    return False


def _site(path: str, rows: Tensor, knobs: int, scores: _Scores) -> Site:
    """Measure softmax rows (rows x tokens, before the softmax)."""
    tokens = rows.shape[-1]
    masked = rows <= MASKED
    empty = int(masked.all(dim=-1).sum()) if tokens else 0
    step = max(1, rows.shape[0] // (8 * _ROWS))
    chosen, hidden = rows[::step].double(), masked[::step]
    count = (~hidden).sum(dim=-1)
    keep = count >= 2
    entropy = math.nan
    if bool(keep.any()):
        weights = chosen[keep].masked_fill(hidden[keep], -math.inf).softmax(dim=-1)
        entropy = float((torch.special.entr(weights).sum(dim=-1) / count[keep].double().log()).mean())
    shown = rows[~masked] if rows.numel() <= SMALL else rows
    largest = float(shown.abs().amax()) if shown.numel() else math.nan
    site = Site(path, tokens, entropy, empty, largest, knobs, scores.reach, scores.is_cosine, False, rows.shape[0])
    # -inf and the lowest number of the dtype are how a mask is written that fits any dtype.
    fits = ~rows.isfinite() | (rows < 0.5 * torch.finfo(rows.dtype).min)
    if not bool(fits.all()):
        site.lowest = float(rows[~fits].amin()) if bool(fits.any()) else float(rows.amin())
    return site
