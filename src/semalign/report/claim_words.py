"""The document's statements, their answers and the advice as sentences of a report's language.

English stands in `semalign.judge.claims`; Chinese, and what a study would need to speak to a statement, stand here.  It
knows nothing of numbers: they come formatted with the answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from semalign.judge.claims import ADVICE, FINDINGS, PARTS, RECOMMENDATIONS, SITUATIONS, STATEMENTS, Claim, Reason
from semalign.wording import Catalogue

__all__ = [
    "CHINESE",
    "NEEDED",
    "finding_text",
    "need_text",
    "reason_text",
    "recommendation_text",
    "situation_text",
    "statement_text",
]

CHINESE: dict[str, Mapping[str, str]] = {
    "statements": {
        "saves-parameters": "固定编码器温度可减少参数。",
        "avoids-overfitting": "固定编码器温度可避免过拟合。",
        "destabilises": "可学习的编码器温度使训练不稳定。",
        "early-layers": "这种不稳定在编码器早期层最明显。",
        "compete": "温度与门控相互竞争。",
        "needs-more": "可学习的编码器温度需要更多数据或更长训练。",
        "converges-faster": "固定编码器温度收敛更快。",
        "expressive": "固定编码器温度不限制模型的表达能力。",
        "small-gain": "可学习的编码器温度带来 0 到 0.5 个 mIoU 点的收益。",
        "gate-range": "门控保持在 [0, 1+] 内。",
        "temperature-range": "温度的对数保持在 ±2 内。",
        "gate-strength": "门控决定融合的强度。",
        "temperature-shape": "温度决定注意力的形状。",
        "encoder-light": "编码器对齐轻量，解码器对齐深入。",
    },
    "findings": {
        "parameters": "固定温度 {fixed} 个参数，可学习温度 {learnable} 个：多 {difference} 个。",
        "gap above": "温度可学习时，训练与验证之差增大 {mean} 点 {interval}。",
        "gap below": "温度可学习时，训练与验证之差缩小 {mean} 点 {interval}。",
        "gap within": "训练与验证之差改变 {mean} 点 {interval}，在 ±{margin} 之内。",
        "gap open": "训练与验证之差改变 {mean} 点 {interval}：方向未定。",
        "less stable": "温度可学习时更不稳定：{parts}。",
        "more stable": "温度可学习时更稳定：{parts}。",
        "signals disagree": "不稳定的各项迹象相互矛盾：{parts}。",
        "signals open": "没有明确的不稳定迹象：{parts}。",
        "first most": "第一阶段的梯度增长最多，{first}，其他阶段最多 {other}。",
        "first not most": "第一阶段的梯度变为 {first}，阶段 {stage} 变为 {other}。",
        "stages open": "第一阶段的梯度变为 {first}；各阶段的区间重叠。",
        "effect below": "效应为 {mean} 点 {interval}，小于 0。",
        "effect above": "效应为 {mean} 点 {interval}，大于 0。",
        "effect small": "效应为 {mean} 点 {interval}，已证明小于界限 {margin}。",
        "effect open": "效应为 {mean} 点 {interval}：尚无定论。",
        "effect unknown": "完整区组太少，无法给出区间。",
        "aliased": "此设计无法把该效应与其他效应区分开：未定（混杂）。",
        "slower": "温度可学习时，达到最终得分的 90 % 多用 {mean} 步 {interval}。",
        "faster": "温度可学习时，达到最终得分的 90 % 的步数改变 {mean} {interval}，即更少。",
        "steps open": "达到最终得分的 90 % 的步数改变 {mean} {interval}：方向未定。",
        "gain inside": "收益为 {mean} 点 {interval}，在 0 到 0.5 之内。",
        "gain beyond": "收益为 {mean} 点 {interval}，在 0 到 0.5 之外。",
        "gain at most": "收益为 {mean} 点 {interval}：不超过 0.5，但可能低于 0。",
        "gain open": "收益为 {mean} 点 {interval}，超出 0 到 0.5 的范围。",
        "range inside": "所有的值都在 {values} 之内。",
        "range outside": "取值范围为 {low} 至 {high}。",
        "range started outside": "取值范围为 {low} 至 {high}；起始值 {start} 已在范围之外。",
        "own larger": "放开自身参数时变为 {own}，放开另一参数时变为 {other}。",
        "other larger": "放开自身参数时变为 {own}，小于放开另一参数时的 {other}。",
        "own open": "放开自身参数时变为 {own}，放开另一参数时变为 {other}：区间重叠。",
        "cost": "每处对齐，编码器与解码器相比：{parts}。",
    },
    "parts": {
        "spread": "种子间离散 x {mean} {interval}",
        "failures": "{blocks} 个区组中失败 {learnable} 次对 {fixed} 次（{p}）",
        "spikes": "每次运行的损失尖峰 {mean} {interval}",
        "parameters": "参数 {encoder} 对 {decoder}（合计 {all_encoder} 对 {all_decoder}）",
        "operations": "运算量 {encoder} 对 {decoder}（合计 {all_encoder} 对 {all_decoder}）",
        "seconds": "秒 {encoder} 对 {decoder}（合计 {all_encoder} 对 {all_decoder}）",
    },
    "situations": {
        "best": "追求最优性能（竞赛、论文）。",
        "quick": "快速得到一个基线。",
        "ablation": "审稿人要求消融实验。",
    },
    "recommendations": {
        "learnable": "让编码器温度可学习。",
        "fixed at learned": "把编码器温度固定在可学习运行最终得到的值。",
        "fixed": "保持编码器温度固定。",
        "gates learnable": "保持门控可学习。",
        "gates fixed": "固定门控。",
        "quote": "引用本研究：该比较已经完成并有结论。",
        "run more": "用更多种子（数目事先确定）对两个版本做一项新研究。",
        "run both": "以配对种子运行两个版本，可学习版本从固定版本的尺度开始。",
    },
    "advice": {
        "gain matters": "可学习带来 {mean} 点 {interval}，且没有证据表明它小于界限。",
        "gain below margin": "可学习带来 {mean} 点 {interval}，小于界限 {margin}。",
        "no gain": "可学习与固定在界限 {margin} 之内相同：{mean} 点 {interval}。",
        "loss": "可学习会损失得分：{mean} {interval}。",
        "gain open": "未显示收益：{mean} 点 {interval}；固定的可调参数更少。",
        "gain unknown": "本研究没有比较两者；固定是原文档的设计，可调参数更少。",
        "value pays": "取相同的值时，固定的得分在界限之内相同：有用的是数值而非学习。",
        "gates needed": "固定门控会损失得分：{mean} {interval}。",
        "gates idle": "固定门控的得分在界限 {margin} 之内相同：{mean} 点 {interval}。",
        "gates hurt": "固定门控反而提高得分：{mean} {interval}。",
        "gates open": "固定门控的作用尚无定论：{mean} 点 {interval}。",
        "gates unknown": "本研究没有比较可学习与固定的门控。",
        "decided": "在界限 {margin} 下已有结论：{mean} 点 {interval}。",
        "blocks": "在界限 {margin} 下尚无定论；按此离散程度至少需要 {blocks} 个种子。",
        "open": "在界限 {margin} 下尚无定论：{mean} 点 {interval}。",
        "confounded": "若从别处开始，可学习版本的数值与学习同时不同。",
    },
}
"""By kind and key what `semalign.judge.claims` says in English; both take the same values."""

_ENGLISH: dict[str, Mapping[str, str]] = {
    "statements": STATEMENTS,
    "findings": FINDINGS,
    "parts": PARTS,
    "situations": SITUATIONS,
    "recommendations": RECOMMENDATIONS,
    "advice": ADVICE,
}

NEEDED: dict[str, tuple[str, str]] = {
    "saves-parameters": (
        "needs an arm with a learnable and one with a fixed encoder temperature, all else equal",
        "需要其余相同、编码器温度分别可学习与固定的两个实验组",
    ),
    "avoids-overfitting": (
        "needs learnable against fixed, and scores on training images",
        "需要可学习与固定的比较，以及训练图像上的得分",
    ),
    "destabilises": ("needs learnable against fixed, all else equal", "需要其余相同的可学习与固定的比较"),
    "early-layers": (
        "needs learnable against fixed, and gradient norms of at least two encoder stages",
        "需要可学习与固定的比较，以及至少两个编码器阶段的梯度范数",
    ),
    "compete": (
        "needs temperature and gate varied together: the arms A, B and C, or a factorial",
        "需要同时改变温度与门控：实验组 A、B、C，或析因设计",
    ),
    "needs-more": (
        "needs temperature and amount of data or training varied together",
        "需要同时改变温度与数据量或训练量",
    ),
    "converges-faster": (
        "needs learnable against fixed, and at least two validations in each run",
        "需要可学习与固定的比较，且每次运行至少有两次验证",
    ),
    "expressive": ("needs the study value-matched", "需要数值匹配研究（value-matched）"),
    "small-gain": ("needs learnable against fixed as a judged effect", "需要把可学习与固定之差作为被评判的效应"),
    "gate-range": ("needs curves of a learnable gate", "需要可学习门控的曲线"),
    "temperature-range": ("needs curves of a learnable temperature", "需要可学习温度的曲线"),
    "gate-strength": (
        "needs temperature and gate each freed alone, and curves of strength",
        "需要分别放开温度与门控，以及强度曲线",
    ),
    "temperature-shape": (
        "needs temperature and gate each freed alone, and curves of entropy",
        "需要分别放开温度与门控，以及熵曲线",
    ),
    "encoder-light": (
        "needs the cost of both alignments: arms without either (the study placement), or runs that recorded it",
        "需要两种对齐的开销：分别去掉其一的实验组（placement 研究），或记录了开销的运行",
    ),
}
"""By statement what a study must have to speak to it, English and Chinese."""


def _text(kind: str, key: str, words: Catalogue, values: Mapping[str, str] | None = None) -> str:
    return (CHINESE if words.lang == "zh" else _ENGLISH)[kind][key].format(**(values or {}))


def statement_text(identity: str, words: Catalogue) -> str:
    """Return the document's statement."""
    return _text("statements", identity, words)


def finding_text(claim: Claim, words: Catalogue) -> str:
    """Return what was found, with its numbers."""
    parts = words("report.detail separator").join(_text("parts", key, words, shown) for key, shown in claim.parts)
    return _text("findings", claim.key, words, {**claim.shown, "parts": parts})


def need_text(identity: str, words: Catalogue) -> str:
    """Return what a study would need to speak to the statement."""
    return NEEDED[identity][words.lang == "zh"]


def situation_text(situation: str, words: Catalogue) -> str:
    """Return one of the document's situations."""
    return _text("situations", situation, words)


def recommendation_text(keys: tuple[str, ...], words: Catalogue) -> str:
    """Return the recommendations as sentences."""
    return ("" if words.lang == "zh" else " ").join(_text("recommendations", key, words) for key in keys)


def reason_text(reason: Reason, words: Catalogue) -> str:
    """Return why something is recommended."""
    if reason.claim is None:
        return _text("advice", reason.key, words, reason.shown)
    answer = words(f"claim.{reason.claim.answer}")
    return words(
        "claim.quoted claim",
        answer=answer[:1].upper() + answer[1:],
        statement=statement_text(reason.claim.id, words),
        finding=finding_text(reason.claim, words),
    )
