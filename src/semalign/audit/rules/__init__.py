"""Everything that the audit can find: one small pure function of the evidence for each fault, in one table.

The order of the table is the order of a report: errors first, by consequence within a severity.
"""

from __future__ import annotations

from typing import Final

from semalign.audit.rules import attention, dead, held, values
from semalign.audit.rules.rule import SEVERITIES, Hit, Rule, Severity

__all__ = ["RULES", "SEVERITIES", "Hit", "Rule", "Severity"]

_TABLE: Final = (
    # ---- errors: it cannot do what its name says ----
    Rule("init-outside-bound", "error", dead.init_outside_bound),
    Rule("two-zero-factors", "error", dead.two_zero_factors),
    Rule("detached", "error", dead.detached),
    Rule("turned-into-number", "error", dead.turned_into_number),
    Rule("no-grad", "error", dead.no_grad),
    Rule("overwritten", "error", values.overwritten),
    Rule("created-after-optimizer", "error", held.created_after_optimizer),
    Rule("not-in-optimizer", "error", held.not_in_optimizer),
    Rule("not-registered", "error", held.not_registered),
    Rule("derived-tensor", "error", held.derived_tensor),
    Rule("never-used", "error", dead.never_used),
    Rule("no-effect", "error", dead.no_effect),
    Rule("saturated", "error", dead.saturated),
    Rule("zero-gradient", "error", dead.zero_gradient),
    Rule("frozen-though-learnable", "error", values.frozen_though_learnable),
    # ---- warnings ----
    Rule("near-uniform-attention", "warning", attention.near_uniform_attention),
    Rule("rows-without-text", "warning", attention.rows_without_text),
    Rule("mask-then-scale", "warning", attention.mask_then_scale),
    Rule("non-finite", "warning", values.non_finite),
    Rule("pinned-at-bound", "warning", values.pinned_at_bound),
    Rule("single-token", "warning", attention.single_token),
    Rule("decay-only", "warning", held.decay_only),
    Rule("idle-group", "warning", held.idle_group),
    Rule("half-overflow", "warning", attention.half_overflow),
    Rule("scalar-decay", "warning", held.scalar_decay),
    Rule("plain-tensor", "warning", held.plain_tensor),
    Rule("not-reached", "warning", dead.not_reached),
    Rule("unused-weights", "warning", dead.unused_weights),
    # ---- notes ----
    Rule("wakes-up", "note", values.wakes_up),
    Rule("effective-scale", "note", attention.effective_scale),
    Rule("effective-gate", "note", attention.effective_gate),
    Rule("key-bias", "note", values.key_bias),
    Rule("cancelled-bias", "note", values.cancelled_bias),
)

RULES: Final[dict[str, Rule]] = {rule.code: rule for rule in _TABLE}
"""All rules by code."""
