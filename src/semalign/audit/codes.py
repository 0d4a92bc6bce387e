"""The table of everything the audit can find: code, severity, what it means, what to do.

Plain values, in order of consequence within a severity.  It knows nothing of torch or of how a finding is made.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

__all__ = ["CODES", "SEVERITIES", "Code", "Severity"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")


@dataclasses.dataclass(frozen=True)
class Code:
    """One kind of finding.

    Attributes:
        name: kebab-case, the same for ever; also the name of its page, docs/audit/NAME.md.
        severity: fixed for the code.
        title: what is wrong, in a few words.
        consequence: what follows for a training.
        fix: what to change, a clause that begins with a verb.
    """

    name: str
    severity: Severity
    title: str
    consequence: str
    fix: str


_TABLE: Final[tuple[Code, ...]] = (
    # ---- errors: it cannot do what its name says ----
    Code(
        "init-outside-bound",
        "error",
        "the start lies outside the bound that the forward clamps it to",
        "the gradient is exactly 0 and it never learns; the model always runs with the bound's value",
        "start inside the bound, widen the bound, or clamp the parameter itself after each optimizer step",
    ),
    Code(
        "two-zero-factors",
        "error",
        "two factors of one product start at 0 and hold each other there",
        "each one's gradient is a multiple of the other, so none ever moves and the branch stays absent",
        "start one of them away from 0: either the gate or the last projection may be 0, not both",
    ),
    Code(
        "detached",
        "error",
        "its value is used, but cut from the graph (.detach() or .data)",
        "it works as a constant: no gradient reaches it",
        "use the parameter itself",
    ),
    Code(
        "turned-into-number",
        "error",
        "its value is used as a Python number (.item(), float(), int(), .tolist())",
        "it works as a constant: no gradient reaches it",
        "multiply by the tensor instead of by its number; where a function takes only numbers, scale its input",
    ),
    Code(
        "no-grad",
        "error",
        "its value is used, but only where gradients are switched off",
        "it works as a constant: no gradient reaches it",
        "take its use out of torch.no_grad() or inference_mode()",
    ),
    Code(
        "overwritten",
        "error",
        "the forward writes another value over it",
        "whatever the optimizer does is lost at the next forward",
        "set the start once, in __init__, and leave it alone in the forward",
    ),
    Code(
        "created-after-optimizer",
        "error",
        "it is created in the forward, after the optimizer was given the parameters",
        "the optimizer does not hold it, so it never moves",
        "create it in __init__, or run one forward before the optimizer is made and never make it anew",
    ),
    Code(
        "not-in-optimizer",
        "error",
        "it has a gradient and the optimizer does not hold it",
        "it never moves",
        "give it to the optimizer, in a group of its own without weight decay if it is a temperature or a gate",
    ),
    Code(
        "not-registered",
        "error",
        "it is a learnable tensor that the model does not know as a parameter",
        "model.parameters() and state_dict() leave it out: the optimizer does not get it, it is not saved nor moved to "
        "another device",
        "assign an nn.Parameter to the module; keep lists in ParameterList, ParameterDict, ModuleList or ModuleDict",
    ),
    Code(
        "derived-tensor",
        "error",
        "it is the result of an operation on a parameter, not a parameter",
        "it was computed once: the optimizer never gets it, and its source is not registered or goes unused",
        "do the arithmetic on the value before nn.Parameter(...), or in the forward",
    ),
    Code(
        "never-used",
        "error",
        "nothing that the loss sees depends on it",
        "it keeps its starting value, or decays to 0, without any effect",
        "use it in the forward, or remove it",
    ),
    Code(
        "no-effect",
        "error",
        "what follows cancels it: the output is the same for any of its values",
        "its gradient is 0 or rounding noise; its value means nothing",
        "move it behind the normalisation or the softmax that cancels it, or remove it",
    ),
    Code(
        "saturated",
        "error",
        "its activation is so flat at the start that the gradient underflows",
        "no step of ordinary size moves it away from there",
        "start where the activation has a slope",
    ),
    Code(
        "zero-gradient",
        "error",
        "it changes the output and its gradient is exactly 0, or absent, at every step",
        "it works as a constant",
        "replace the step without derivative (rounding, sign, comparison, argmax) by one with a derivative",
    ),
    Code(
        "frozen-though-learnable",
        "error",
        "its name or a flag of its module says learnable, and it is not",
        "it keeps its starting value",
        "make it an nn.Parameter with requires_grad=True, or correct the name or the flag",
    ),
    # ---- warnings ----
    Code(
        "near-uniform-attention",
        "warning",
        "the attention is almost uniform and its scale cannot make it sharp",
        "every position reads the mean of the tokens: the attention selects nothing, now or later",
        "raise the scale or its upper bound, or remove the factor 1/sqrt(d) that a cosine does not need",
    ),
    Code(
        "rows-without-text",
        "warning",
        "an attention row has every token masked",
        "softmax over -inf alone is NaN, and one such image poisons the batch's gradient; over large finite numbers it "
        "is uniform over the padding",
        "leave such rows out of the softmax and set their weights to 0",
    ),
    Code(
        "mask-then-scale",
        "warning",
        "the mask is put in before the learnable scale multiplies the scores",
        "the scale's gradient is 0 · inf = NaN, or is swamped by the masked entries",
        "scale first, mask afterwards",
    ),
    Code(
        "non-finite",
        "warning",
        "the loss or a gradient is not a finite number",
        "the first optimizer step makes every weight NaN",
        "find the first operation that is not finite with torch.autograd.detect_anomaly()",
    ),
    Code(
        "pinned-at-bound",
        "warning",
        "it stands on its bound and its gradient pushes it outwards, or one step makes it dead",
        "its value is the bound's, not a learned one",
        "widen the bound or start inside it",
    ),
    Code(
        "single-token",
        "warning",
        "the attention is over a single token",
        "every weight is 1: queries, keys and the temperature have no effect and no gradient",
        "give more tokens, or take the attention out",
    ),
    Code(
        "decay-only",
        "warning",
        "it moves only as weight decay moves it",
        "it goes to 0 whatever the data say, and its curve looks as if it learned",
        "give it a gradient, and set its weight decay to 0",
    ),
    Code(
        "idle-group",
        "warning",
        "a parameter group of the optimizer has no effect as written",
        "its learning rate is 0 or ignored, or it holds nothing that learns",
        "correct the group's parameters or the name of its option (torch reads 'lr' and 'weight_decay' and ignores the "
        "rest)",
    ),
    Code(
        "half-overflow",
        "warning",
        "numbers on this path do not fit into float16 (65504)",
        "inf, then NaN, under half precision",
        "scale queries before the product, keep the softmax in float32, mask with -inf or torch.finfo(dtype).min",
    ),
    Code(
        "scalar-decay",
        "warning",
        "weight decay acts on a temperature or gate",
        "decay pulls it to 0 at every step: a log scale towards the base, a gate towards an absent branch",
        "put temperatures and gates into a group with weight_decay=0",
    ),
    Code(
        "plain-tensor",
        "warning",
        "a tensor used in the forward is neither a parameter nor a buffer",
        "it does not learn, is not saved, and stays behind when the model moves to another device",
        "make it an nn.Parameter if it is to learn, else register_buffer",
    ),
    Code(
        "not-reached",
        "warning",
        "a learnable scalar gets no gradient with this batch",
        "it does not learn from such data",
        "check that this part is meant to be idle; if not, use it or give a batch that reaches it",
    ),
    Code(
        "unused-weights",
        "warning",
        "weights get no gradient with this batch",
        "they take memory and optimizer state without learning",
        "freeze them (requires_grad=False) if that is meant, remove or use them if not",
    ),
    # ---- notes ----
    Code(
        "wakes-up",
        "note",
        "it starts at 0 and what stands behind it comes alive after one step",
        "none: this is how ReZero, LoRA and tanh gates start",
        "leave it as it is",
    ),
    Code(
        "effective-scale",
        "note",
        "a temperature's value alone does not tell how sharp its attention is",
        "queries and keys can grow and do the same; compare scale·|q||k|, not the raw value",
        "report this number beside the temperature",
    ),
    Code(
        "effective-gate",
        "note",
        "a gate's value alone does not tell how strong its branch is",
        "the projection before it can grow and do the same; compare |g·a|/|x|, not the raw value",
        "report this number beside the gate",
    ),
    Code(
        "key-bias",
        "note",
        "a key bias under a softmax",
        "it adds the same number to all scores of a row, which the softmax cancels: its gradient is rounding noise",
        "build the key projection with bias=False",
    ),
    Code(
        "cancelled-bias",
        "note",
        "a bias in front of a normalisation that subtracts it again",
        "its gradient is rounding noise",
        "build that layer with bias=False",
    ),
)

CODES: Final[dict[str, Code]] = {code.name: code for code in _TABLE}
"""All codes by name, errors first, by consequence within a severity."""
