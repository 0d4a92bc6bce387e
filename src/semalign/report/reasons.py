"""A verdict's full reason in the report's language.

English is the verdict's own sentence; Chinese is made here from the same numbers, case by case as `semalign.judge`
makes its own.  This module knows nothing of tables or pages.
"""

from __future__ import annotations

import numpy as np

from semalign.judge import Estimate, Judgement, Verdict, format_interval, format_level, format_points
from semalign.judge.types import WORDS
from semalign.judge.verdict import decide
from semalign.report.words import known
from semalign.wording import Catalogue

__all__ = ["moment_of", "reason_of"]


def moment_of(judgement: Judgement, estimate: Estimate) -> tuple[int, int] | None:
    """Return index (from 1) and blocks of the look that the estimate stands at; None without looks or before one."""
    looks = judgement.looks_of(estimate.contrast.name)
    for index, look in enumerate(looks, start=1):
        if look.judged and look.estimate == estimate:
            return index, look.blocks
    return None


def reason_of(judgement: Judgement, estimate: Estimate, verdict: Verdict, words: Catalogue) -> str:
    """Return why the verdict is what it is, one sentence with all numbers."""
    if words.lang == "en":
        return verdict.reason
    return f"{estimate.contrast.name}：{_said(judgement, estimate, verdict, words)}。"


def _said(judgement: Judgement, estimate: Estimate, verdict: Verdict, words: Catalogue) -> str:
    name, n, margin = estimate.contrast.name, estimate.n, f"{judgement.margin:g}"
    left_out = [item for item in judgement.left_out if item.contrast == name]
    lost = len(left_out)
    moment = moment_of(judgement, estimate)
    if judgement.moments and moment is None:
        return f"尚无定论，尚未评判：{len(judgement.seeds)} 个区组，第一次评判在 {judgement.moments[0]} 个区组时"
    if estimate.mean is None or estimate.sd is None or estimate.low is None or estimate.high is None:
        absent = [arm for arm in estimate.contrast.weights if arm in judgement.absent_arms]
        cause = f"实验组 {absent[0]} 没有运行" if absent else f"{n + lost} 个区组中有 {n} 个完整"
        return f"尚无定论，{cause}，而区间至少需要 2 个完整区组：请增加种子"
    assert estimate.low_equivalence is not None
    assert estimate.high_equivalence is not None
    ends = (estimate.low, estimate.high, estimate.low_equivalence, estimate.high_equivalence)
    alone = WORDS[int(np.asarray(decide(*ends, judgement.margin).code))]
    if verdict.word != alone and estimate.sd == 0 and not lost:
        return f"尚无定论，所有实验组在全部 {n} 个区组中的得分完全相同，因此它们只是一次观测：请让种子作用于训练"
    if verdict.word != alone:
        return f"尚无定论，{lost} 个区组不完整，{n} 个完整区组的结论并非对缺失运行在 0 到 100 之间的任何得分都成立"
    found = f"{n} 个区组上为 {format_points(estimate.mean)} 个 mIoU 点"
    kind = "区间"
    if moment is not None:
        found += f"（第 {moment[0]} 次评判，共 {len(judgement.moments)} 次）"
        kind = "重复区间"
    wide = f"{format_level(estimate.level)} {kind} {format_interval(*ends[:2])}"
    narrow = f"{format_level(2 * estimate.level - 1)} {kind} {format_interval(*ends[2:])}"
    if verdict.word == "inconclusive":
        said = f"尚无定论，{found}，{wide} 含 0，且 {narrow} 不在 ±{margin} 之内"
        if lost:
            said += f"，另有 {lost} 个区组不完整"
        if verdict.blocks_needed is not None:
            spread = format_points(estimate.sd, signed=False)
            said += f"：按此离散程度（标准差 {spread}），新的研究至少需要 {verdict.blocks_needed} 个区组"
        ahead = [blocks for blocks in judgement.moments if moment is not None and blocks > moment[1]]
        return f"{said}：下一次评判在 {ahead[0]} 个区组时" if ahead else said
    side = "大于" if verdict.word == "better" else "小于"
    called = _called(estimate, verdict, words)
    if verdict.word == "equivalent":
        said = f"等价，{found}，{narrow} 落在 ±{margin} 之内"
    elif verdict.below_margin:
        said = f"{called}，但小于界限，{found}，{wide} {side} 0，且 {narrow} 落在 ±{margin} 之内"
    elif max(estimate.low, -estimate.high) > judgement.margin:
        said = f"{called}，{found}，{wide} 超出界限 {margin}"
    else:
        said = f"{called}，{found}，{wide} {side} 0，但效应是否达到界限 {margin} 尚不清楚"
    return f"{said}；无论缺失运行的得分如何都成立（{lost} 个区组不完整）" if lost else said


def _called(estimate: Estimate, verdict: Verdict, words: Catalogue) -> str:
    called = str(estimate.called)
    return words(f"verdict.{called}") if called in ("better", "worse") else known(called, words.lang)
