"""The fixed sentences of a report in English and Chinese.

Both languages of a sentence stand together, so that none is forgotten.  This module knows nothing of numbers.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias, get_args

from semalign.errors import ConfigError

__all__ = ["LANGUAGES", "SENTENCES", "Language", "Words", "check_language"]

Language: TypeAlias = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


def check_language(lang: str) -> Language:
    """Return ``lang``; raise `ConfigError` where there are no sentences in it."""
    for known in LANGUAGES:
        if lang == known:
            return known
    raise ConfigError(f"the report's language is {lang!r}, expected one of {', '.join(LANGUAGES)}")


class Words:
    """The sentences of one language: ``words("key", name=value)``.

    Raises:
        KeyError: there is no such sentence, or a value that it needs is missing.
    """

    def __init__(self, lang: Language) -> None:
        self.lang = lang

    def __call__(self, key: str, **values: object) -> str:
        """Return the sentence with its values filled in."""
        return SENTENCES[key][LANGUAGES.index(self.lang)].format(**values)

    def known(self, text: str) -> str:
        """Return the translation of a text that the package itself wrote elsewhere, else the text."""
        if self.lang == "en":
            return text
        if text in _FIXED:
            return _FIXED[text]
        for pattern, chinese in _PATTERNS:
            if found := pattern.fullmatch(text):
                return chinese.format(**found.groupdict())
        return text

    def run_on(self, *sentences: str) -> str:
        """Return sentences one after the other; empty ones are left out."""
        return ("" if self.lang == "zh" else " ").join(sentence for sentence in sentences if sentence)

    def join(self, items: list[str]) -> str:
        """Return the items as a list in a sentence."""
        return ("、" if self.lang == "zh" else ", ").join(items)


SENTENCES: dict[str, tuple[str, str]] = {
    # --- headings -------------------------------------------------------------------------------
    "answer": ("Answer", "结论"),
    "evidence": ("Evidence", "证据"),
    "method": ("Method", "方法"),
    "change": ("What would change the verdict", "什么会改变结论"),
    "contents": ("Contents", "目录"),
    "study": ("study", "研究"),
    "skip": ("Skip to the answer", "跳到结论"),
    "source": ("Source: {source}", "来源：{source}"),
    # --- text -----------------------------------------------------------------------------------
    "text question": ("Does the model use its text?", "模型是否真的用到了文本？"),
    "text: yes": (
        "Yes: {arm} scores higher with its own text than with random vectors in the text's place",
        "是：{arm} 使用自己的文本时，得分高于用随机向量代替文本时",
    ),
    "text: branch, no control": (
        "Yes, as far as can be told: {arm} scores higher than the same model trained without text; no control with "
        "random vectors tells the text's meaning from the added parameters",
        "就目前所能判断：是。{arm} 的得分高于同一模型不用文本训练时；但没有随机向量对照，无法区分文本含义与新增参数"
        "的作用",
    ),
    "text: branch, open": (
        "Only in part can it be told: {arm} scores higher than the same model trained without text, but whether the "
        "text's meaning or only the added parameters do it is open",
        "只能部分判断：{arm} 的得分高于同一模型不用文本训练时，但起作用的是文本含义还是新增参数，尚无定论",
    ),
    "text: branch only": (
        "No, not its meaning: {arm} scores higher than the same model trained without text, but with random "
        "vectors in "
        "the text's place it scores the same within the margin",
        "没有用到文本含义：{arm} 的得分高于不用文本训练的模型，但用随机向量代替文本时得分在界限内相同",
    ),
    "text: no": (
        "No: trained without text, and with random vectors in the text's place, {arm} scores the same within the "
        "margin",
        "否：不用文本训练，或用随机向量代替文本，{arm} 的得分在界限内都相同",
    ),
    "text: not its meaning": (
        "No, not its meaning: with random vectors in the text's place {arm} scores the same within the margin",
        "没有用到文本含义：用随机向量代替文本时，{arm} 的得分在界限内相同",
    ),
    "text: no gain": (
        "No gain that matters: trained without text {arm} scores the same within the margin",
        "没有有意义的收益：不用文本训练时，{arm} 的得分在界限内相同",
    ),
    "text: harm of meaning": (
        "Its text does harm: {arm} scores lower with it than with random vectors in its place",
        "文本反而有害：{arm} 使用自己的文本时，得分低于用随机向量代替时",
    ),
    "text: harm": (
        "Its text does harm: {arm} scores lower than the same model trained without text",
        "文本反而有害：{arm} 的得分低于同一模型不用文本训练时",
    ),
    "text: unknown": (
        "It cannot be told: the controls show neither a gain of {arm} from its text nor that there is none"
        " beyond the "
        "margin",
        "无法判断：对照既未显示 {arm} 从文本中获益，也未显示收益不超过界限",
    ),
    "text: no control": (
        "It cannot be told: the study has no control, {arm} without text or with random vectors in its place",
        "无法判断：本研究没有对照组（不用文本的 {arm}，或用随机向量代替文本的 {arm}）",
    ),
    "text: no text": ("{arm} is trained without text", "{arm} 训练时不使用文本"),
    "gain: no text": ("with text minus without", "有文本减去无文本"),
    "gain: random vectors": ("text minus random vectors", "文本减去随机向量"),
    "gain": ("{control}: {figure}, {word}", "{control}：{figure}，{word}"),
    "detail": ("{main} ({details}).", "{main}（{details}）。"),
    "full stop": ("{main}.", "{main}。"),
    "detail separator": ("; ", "；"),
    "shared": (
        "All images share one text bank{sentences}, so the text carries no information about any single image; "
        "what it "
        "can give is a description of the classes.",
        "所有图像共用同一个文本库{sentences}，因此文本不携带任何单张图像的信息；它能提供的只是对类别的描述。",
    ),
    "shared sentences": (" of {n} sentences", "（{n} 句）"),
    # --- verdicts -------------------------------------------------------------------------------
    "better": ("better", "更好"),
    "worse": ("worse", "更差"),
    "equivalent": ("equivalent", "等价"),
    "inconclusive": ("inconclusive", "尚无定论"),
    "below margin": ("{word} (below the margin)", "{word}（小于界限）"),
    "more blocks": ("{word} (new study: {n} blocks)", "{word}（新研究需 {n} 个区组）"),
    "not judged": ("not judged", "未评判"),
    "reference": ("reference", "基准"),
    "not run": ("not run", "未运行"),
    "all failed": ("all {n} failed", "{n} 次全部失败"),
    "leaking": ("leaking", "泄漏"),
    "with leaking": ("{arm} (leaking)", "{arm}（泄漏）"),
    "question generic": ("Does {first} score otherwise than {second}?", "{first} 的得分与 {second} 不同吗？"),
    "tally": (
        "{decided} of {total} primary effects decided: {words}.",
        "{total} 个主要效应中有 {decided} 个得出结论：{words}。",
    ),
    "tally word": ("{n} {word}", "{n} 个{word}"),
    "plain: beyond": (
        "{called}: {mean} mIoU points, and even the near end of {interval} lies beyond the margin of {margin}.",
        "{called}：{mean} 个 mIoU 点，且区间 {interval} 的近端也超过界限 {margin}。",
    ),
    "plain: below": (
        "{called}, but by too little to matter: {mean} mIoU points {interval}, shown to be smaller than th"
        "e margin of "
        "{margin}.",
        "{called}，但幅度太小：{mean} 个 mIoU 点 {interval}，已证明小于界限 {margin}。",
    ),
    "plain: direction": (
        "{called}: {mean} mIoU points {interval}; whether it reaches the margin of {margin} is open.",
        "{called}：{mean} 个 mIoU 点 {interval}；是否达到界限 {margin} 尚不清楚。",
    ),
    "plain: equivalent": (
        "No difference that matters: {mean} mIoU points, and {inner} lies inside ±{margin}.",
        "没有有意义的差异：{mean} 个 mIoU 点，且 {inner} 落在 ±{margin} 之内。",
    ),
    "plain: inconclusive": (
        "Cannot be told: these {n} blocks are compatible with anything from {low} to {high} mIoU points; a new "
        "study of "
        "{needed} blocks would decide.",
        "无法判断：这 {n} 个区组与 {low} 到 {high} 个 mIoU 点之间的任何效应都相容；一项 {needed} 个区组的新研究可以"
        "判定。",
    ),
    "plain: no interval": (
        "Cannot be told: complete blocks so far {n}, and an interval needs at least 2.",
        "无法判断：目前完整区组 {n} 个，而区间至少需要 2 个。",
    ),
    "plain: other": ("Cannot be told from these runs.", "无法由这些运行判断。"),
    "better called": ("Better", "更好"),
    "worse called": ("Worse", "更差"),
    "reason": ("In full:", "完整理由："),
    # --- state ----------------------------------------------------------------------------------
    "state": (
        "{finished} of {planned} planned runs finished, {failed} failed, {missing} not run yet.",
        "计划的 {planned} 次运行中，{finished} 次完成，{failed} 次失败，{missing} 次尚未运行。",
    ),
    "state failed": ("Failed: {runs}.", "失败：{runs}。"),
    "state missing": ("Not run yet: {runs}.", "尚未运行：{runs}。"),
    "seed": ("{arm}, seed {seeds}", "{arm}，种子 {seeds}"),
    "every arm": ("every arm", "所有实验组"),
    "preliminary": (
        "Until the study is complete, a verdict stands only where it holds whatever the lost or missing runs may "
        "score.",
        "在研究完成之前，只有无论缺失运行得分如何都成立的结论才算成立。",
    ),
    # --- tables ---------------------------------------------------------------------------------
    "other arms": ("Further arms", "其余实验组"),
    "all arms": ("All arms", "全部实验组"),
    "arm": ("Arm", "实验组"),
    "miou": ("mIoU", "mIoU"),
    "effect": ("Effect [interval]", "效应 [区间]"),
    "verdict": ("Verdict", "结论"),
    "runs": ("{n} of {planned} runs", "{planned} 次运行中的 {n} 次"),
    "runs failed": ("{failed} failed", "{failed} 次失败"),
    "table note": (
        "mIoU in points (0 to 100): mean ± half width of the {level} t interval over seeds. Effect: mean paired "
        "difference to {baseline} over blocks, with the Bonferroni interval of its family ({families}). “New study: n "
        "blocks” is the size of a new pre-registered study; blocks already run cannot be counted in it.",
        "mIoU 以点计（0 到 100）：均值 ± 各种子 {level} t 区间的半宽。效应：各区组内与 {baseline} 的配对差的均值，"
        "并给出其族的 Bonferroni 区间（{families}）。“新研究需 n 个区组”指一项新的预注册研究的规模，已有区组不能计入。",
    ),
    "family level": ("{family}: {m} effects, {level}", "{family}：{m} 个效应，{level}"),
    "family level one": ("{family}: 1 effect, {level}", "{family}：1 个效应，{level}"),
    "primary": ("primary", "主要"),
    "controls": ("controls", "对照"),
    "interactions": ("interactions", "交互"),
    "leaking note": (
        "Leaking: the arm's texts are made from the masks that are scored. Its figure is an upper bound, not a result.",
        "泄漏：该组的文本由被评分的掩码生成，其数字只是上界，不是结果。",
    ),
    "effects title": ("Effects and their verdicts", "效应与结论"),
    "effect name": ("Effect", "效应"),
    "family": ("Family", "族"),
    "blocks": ("Blocks", "区组"),
    "points interval": ("Points [interval]", "点 [区间]"),
    "equivalence interval": ("Equivalence interval", "等价性区间"),
    "p": ("p", "p"),
    "p holm": ("p (Holm)", "p（Holm）"),
    "effects note": (
        "p: two-sided t test that the effect is 0, and the same adjusted by Holm within the family; shown, never "
        "judged. "
        "Verdicts follow from the two intervals.",
        "p：效应为 0 的双侧 t 检验，以及族内 Holm 校正值；仅供展示，不用于判定。结论由两个区间得出。",
    ),
    "classes title": ("IoU by class", "各类别 IoU"),
    "class": ("Class", "类别"),
    "classes note": (
        "IoU in points over the whole split, from summed counts: mean ± half width of the {level} t interval over "
        "seeds.",
        "IoU 以点计，由整个划分的像素计数求和得到：均值 ± 各种子 {level} t 区间的半宽。",
    ),
    "absent": (
        "Absent from the scored masks and left out of every mean: {classes}.",
        "在被评分的掩码中不存在、不计入任何均值：{classes}。",
    ),
    "absent none": ("Every class occurs in the scored masks.", "所有类别都出现在被评分的掩码中。"),
    "cost title": ("Parameters, cost and fit", "参数、开销与拟合"),
    "parameters": ("Parameters", "参数量"),
    "against": ("Against {baseline}", "相对 {baseline}"),
    "steps": ("Steps", "步数"),
    "seconds": ("Median time a run", "每次运行时间（中位数）"),
    "train": ("Train mIoU", "训练 mIoU"),
    "gap": ("Train − scored", "训练 − 评分"),
    "cost note": (
        "Times are wall-clock times of runs that shared the machine. Train mIoU: the scored weights on a s"
        "ubset of the "
        "training images.",
        "时间为该机器上（与其他运行共享时）的实际时间。训练 mIoU：被评分的权重在部分训练图像上的得分。",
    ),
    "arms title": ("Arms", "实验组"),
    "own options": ("Options that differ", "不同的选项"),
    "text": ("Text", "文本"),
    "as shared": ("none: the shared options", "无：使用公共选项"),
    "failures title": ("Failed runs", "失败的运行"),
    "what happened": ("What happened", "原因"),
    "seed head": ("Seed", "种子"),
    "failure test": (
        "Failures of {arm} against {baseline} in {blocks} blocks: {only_arm} of {arm} alone, {only_baseline} of "
        "{baseline} alone; exact paired test {p}.",
        "{blocks} 个区组中 {arm} 与 {baseline} 的失败：仅 {arm} 失败 {only_arm} 次，仅 {baseline} 失败 "
        "{only_baseline} 次；"
        "精确配对检验 {p}。",
    ),
    "not recorded": ("not recorded", "未记录"),
    "none": ("—", "—"),
    # --- figures --------------------------------------------------------------------------------
    "effects figure": ("Effects with intervals and margin", "效应、区间与界限"),
    "effects figure text": (
        "Dot: mean paired difference. Thin line: interval that judges direction. Thick line: interval that judges "
        "equivalence. Small strokes: the blocks. Grey band: the margin, fixed beforehand.",
        "圆点：配对差均值。细线：判断方向的区间。粗线：判断等价的区间。小竖线：各区组。灰带：事先确定的界限。",
    ),
    "effects axis": ("effect in mIoU points", "效应（mIoU 点）"),
    "margin band": ("grey: ±{margin}", "灰色：±{margin}"),
    "training": ("Training curves", "训练曲线"),
    "training text": (
        "Mean over the finished runs of an arm; the band reaches from the lowest to the highest run.",
        "各组已完成运行的均值；色带为最低到最高的运行。",
    ),
    "train/loss": ("Training loss", "训练损失"),
    "val/miou": ("Validation mIoU (points)", "验证 mIoU（点）"),
    "train/miou": ("Training mIoU (points)", "训练 mIoU（点）"),
    "optimizer step": ("optimizer step", "优化步"),
    "knobs": ("Temperature and gate over training", "训练中的温度与门控"),
    "knobs text": (
        "By place of the alignment, averaged over the blocks of a stage. Scale is the inverse temperature, base "
        "included; the reach of the logits, scale × |q| × |k|, tells how sharp the attention can be. A fla"
        "t line is a "
        "frozen (or dead) knob.",
        "按对齐所在位置，同一阶段内各块取平均。尺度为温度的倒数（含基数）；对数几率幅度为 尺度 × |q| × |k|，"
        "反映注意力可达的尖锐程度。水平线表示该参数被冻结（或无梯度）。",
    ),
    "fusion": ("Fusion strength and attention entropy", "融合强度与注意力熵"),
    "fusion text": (
        "Strength |g·a|/|x| is how much the text branch adds to the stream; entropy 1 is attention spread "
        "evenly over "
        "all tokens, 0 is one token alone.",
        "强度 |g·a|/|x| 表示文本分支加入主干的比例；熵为 1 表示注意力均匀分布，0 表示只关注一个词元。",
    ),
    "stability": ("Gradient norms by place", "各位置的梯度范数"),
    "stability text": (
        "Norm of the gradient of each alignment's parameters.",
        "各对齐模块参数的梯度范数。",
    ),
    "scale": ("Scale", "尺度"),
    "logit_size": ("Reach of logits", "对数几率幅度"),
    "gate": ("Gate", "门控"),
    "strength": ("Strength", "强度"),
    "entropy": ("Entropy", "熵"),
    "grad_norm": ("Gradient norm", "梯度范数"),
    "encoder": ("encoder, stage {index}", "编码器，阶段 {index}"),
    "decoder": ("decoder, level {index}", "解码器，层级 {index}"),
    "other": ("{site}", "{site}"),
    "panel title": ("{quantity}: {place}", "{quantity}：{place}"),
    "panel description": (
        "{title} over optimizer steps. Last values: {values}.",
        "{title}随优化步变化。最后的值：{values}。",
    ),
    "last value": ("{arm} {value}", "{arm} {value}"),
    "effects description": (
        "Effects in mIoU points with intervals, margin ±{margin}: {values}.",
        "效应（mIoU 点）及区间，界限 ±{margin}：{values}。",
    ),
    "no curves": ("No finished run recorded these curves.", "已完成的运行没有记录这些曲线。"),
    # --- pilot ----------------------------------------------------------------------------------
    "pilot": ("Noise of identical recipes (pilot)", "相同配方的噪声（预试验）"),
    "pilot none": (
        "No pilot can be judged: {complete} of {started} of its blocks are complete, and it takes 2.",
        "预试验无法评判：已开始的 {started} 个区组中有 {complete} 个完整，至少需要 2 个。",
    ),
    "pilot text": (
        "The baseline's recipe was run twice per block, the second time with initial weights changed by a millionth; "
        "their true difference is 0. What is seen here is chance alone.",
        "每个区组用基线配方运行两次，第二次的初始权重只改变百万分之一；真实差异为 0，这里看到的完全是偶然。",
    ),
    "quantity": ("Quantity", "量"),
    "value": ("Value", "值"),
    "pilot blocks": ("Blocks", "区组"),
    "pilot mean": ("Mean difference (true value 0)", "平均差（真值为 0）"),
    "pilot sd": ("Spread of the paired difference (sd)", "配对差的标准差"),
    "pilot single": ("Spread of single runs over seeds (sd)", "单次运行在种子间的标准差"),
    "pilot correlation": ("Correlation of the two runs of a block", "同一区组两次运行的相关"),
    "pilot pairing": ("Does pairing by block pay?", "按区组配对是否有益？"),
    "pays": ("yes", "是"),
    "costs": ("no, it costs", "否，反而有损"),
    "open": ("open", "尚不清楚"),
    "pilot margin": ("Margin that {n} blocks resolve", "{n} 个区组能分辨的界限"),
    # --- method ---------------------------------------------------------------------------------
    "design": ("Design", "设计"),
    "design text": (
        "{arms} arms × {blocks} blocks = {runs} runs. A block is one seed ({seeds}): {shared}, so that an effect is a "
        "paired difference.",
        "{arms} 个实验组 × {blocks} 个区组 = {runs} 次运行。一个区组即一个种子（{seeds}）：{shared}，因此效应是"
        "配对差。",
    ),
    "block shares": (
        "all its arms share the initial weights of common parameters, the order of images and the augmentation",
        "其中各组共享公共参数的初值、图像顺序和增强",
    ),
    "block shares command": (
        "the command was given it for all arms, which share what the script makes of it",
        "各组的命令得到同一种子，共享内容由脚本决定",
    ),
    "intervals": ("Intervals", "区间"),
    "intervals text": (
        "Effects of a family share α = {alpha} (Bonferroni): {families}. The direction interval is a t interval over "
        "blocks with S − 1 degrees of freedom; all intervals of a family cover at once with probability at least "
        "{joint}. The narrower equivalence interval has coverage 1 − 2α/m.",
        "同族效应共享 α = {alpha}（Bonferroni）：{families}。方向区间为区组上的 t 区间，自由度 S − 1；一族的所有区"
        "间以至少 "
        "{joint} 的概率同时覆盖。较窄的等价性区间覆盖率为 1 − 2α/m。",
    ),
    "verdicts": ("Verdicts", "判定规则"),
    "verdicts text": (
        "Better or worse: the direction interval excludes 0. Equivalent: the equivalence interval lies inside the "
        "margin "
        "of ±{margin} mIoU points (two one-sided tests). Else inconclusive. The margin and the number of blocks were "
        "fixed before any run and the study is judged once.",
        "更好或更差：方向区间不含 0。等价：等价性区间落在 ±{margin} 个 mIoU 点的界限之内（两个单侧检验）。其余为尚"
        "无定论。"
        "界限与区组数在任何运行之前确定，研究只评判一次。",
    ),
    "scoring": ("Scoring", "评分"),
    "scoring text": (
        "Data set IoU from counts summed over the {images} images of split “{split}”, at each mask's own size; "
        "mIoU is "
        "the mean over classes that occur.",
        "由划分“{split}”的 {images} 张图像的像素计数求和得到数据集 IoU，按掩码原尺寸计算；mIoU 为出现类别的均值。",
    ),
    "scoring given": (
        "The score that each run's command wrote to score.json, in [0, 1]; shown in points (0 to 100).",
        "各次运行的命令写入 score.json 的得分，取值 [0, 1]，以点（0 到 100）显示。",
    ),
    "average": ("running average at the end of training", "训练结束时的滑动平均"),
    "last": ("last step of training", "训练最后一步"),
    "absent head": ("Absent classes", "不存在的类别"),
    "text head": ("Text of {arm}", "{arm} 的文本"),
    "data": ("Data", "数据"),
    "data kind": ("data: {kind}", "数据：{kind}"),
    "data root": ("data: folder {root}", "数据：文件夹 {root}"),
    "data splits": ("images: {splits}", "图像：{splits}"),
    "data classes": ("{n} classes", "{n} 个类别"),
    "fingerprint": ("fingerprint of {split}: {sha}", "{split} 的指纹：{sha}"),
    "recipe": ("Recipe", "配方"),
    "options": ("Options of all arms", "公共选项"),
    "command": ("Command", "命令"),
    "plan": ("Plan", "计划"),
    "plan text": (
        "Before the first run: {runs} runs, about {hours} hours with {workers} at a time.",
        "第一次运行之前：{runs} 次运行，同时 {workers} 个，约 {hours} 小时。",
    ),
    "plan precision": (
        "At a spread of {sd} points ({origin}) it was to resolve ±{resolved}; the study's margin would take {blocks} "
        "blocks.",
        "若标准差为 {sd} 点（{origin}），预计能分辨 ±{resolved}；本研究的界限需要 {blocks} 个区组。",
    ),
    "sd assumed": ("assumed", "假定"),
    "sd pilot": ("from the pilot", "来自预试验"),
    "versions": ("Versions", "版本"),
    "machine": ("Machine", "机器"),
    "seeds": ("Seeds", "种子"),
    "failed runs": ("Failed and missing runs", "失败与缺失的运行"),
    "failed text": (
        "A failed run is an outcome. While a block is incomplete, an effect is called better, worse or equivalent "
        "only if "
        "it stays so whatever the lost runs had scored between 0 and 100.",
        "失败的运行也是结果。区组不完整时，只有无论缺失运行得分为 0 到 100 之间何值都成立的结论才成立。",
    ),
    # --- change ---------------------------------------------------------------------------------
    "needs title": ("What a verdict on each effect would take", "每个效应得出结论所需"),
    "sd": ("Spread (sd)", "标准差"),
    "resolved": ("Margin these {n} blocks resolve", "这 {n} 个区组能分辨的界限"),
    "blocks at": ("Blocks for ±{margin}", "±{margin} 所需区组"),
    "hours at": ("Hours for ±{margin}", "±{margin} 所需小时"),
    "needs note": (
        "Resolved: the smallest margin at which a true effect of 0 is called equivalent with probability {power}. "
        "Blocks: "
        "of a new pre-registered study that ends in a verdict whatever it finds, if the spread stays as seen. "
        "Hours: its "
        "runs one after another, at the median time of these.",
        "能分辨：真实效应为 0 时以 {power} 的概率判为等价的最小界限。区组：若离散程度不变，一项无论结果如何都能得出"
        "结论的新预注册"
        "研究的规模。小时：按本次中位时间依次运行。",
    ),
    "watch": ("Read with care", "阅读时请注意"),
    "finding": ("{arms}: {sentence}", "{arms}：{sentence}"),
    "nothing": ("Nothing was noted by the runs.", "运行中没有任何提示。"),
    "change margin": (
        "Another margin than ±{margin} would be another question: it is fixed before the runs and cannot be chosen "
        "from "
        "these results.",
        "换用 ±{margin} 以外的界限就是另一个问题：它在运行之前确定，不能根据这些结果来选择。",
    ),
    "change data": (
        "The verdicts hold for this model, recipe and data; the blocks vary the seed, not the images, so b"
        "y themselves "
        "they make no claim about new images.",
        "结论只适用于此模型、配方与数据；区组改变的是种子而非图像，因此结论本身不对新图像作断言。",
    ),
    # --- tables.md ------------------------------------------------------------------------------
    "md cost": (
        "Cost: {seconds} a run, the median of {n}{machine}.",
        "开销：每次运行 {seconds}（取 {n} 次的中位数）{machine}。",
    ),
    "md machine": ("; {machine}", "；{machine}"),
    "md margin": (
        "Margin: pre-registered ±{margin} mIoU points; this budget of {blocks} blocks resolves {resolved}.",
        "界限：预注册 ±{margin} 个 mIoU 点；{blocks} 个区组的预算能分辨 {resolved}。",
    ),
    "md margin range": ("±{low} to ±{high}, depending on the effect", "±{low} 到 ±{high}，视效应而定"),
    "md margin one": ("±{low}", "±{low}"),
    "md margin none": ("no margin yet: it takes 2 complete blocks", "尚不能分辨任何界限：需要 2 个完整区组"),
    "md margin pilot": (
        "By the pilot ±{margin} was expected.",
        "按预试验预计为 ±{margin}。",
    ),
    "md text": ("Text: {sentence}", "文本：{sentence}"),
    "md scored": (
        "Scored: split “{split}”, {images} images; {data}.",
        "评分：划分“{split}”，{images} 张图像；{data}。",
    ),
    "no command": ("the command was not recorded", "未记录命令"),
    "md state": ("Runs: {state}", "运行：{state}"),
    "seconds unit": ("{n} s", "{n} 秒"),
    "minutes unit": ("{n} s ({minutes} min)", "{n} 秒（{minutes} 分钟）"),
    "cpus": ("CPU cores: {n}", "CPU 核数：{n}"),
    "workers": ("runs at a time: {n}", "同时运行数：{n}"),
    "threads": ("threads a run: {n}", "每个运行 {n} 个线程"),
    # --- looks ----------------------------------------------------------------------------------
    "looks": ("Looks", "中期评判"),
    "looks text": (
        "Planned before any run: looks at {looks} blocks, and at no other moment. At each look an interval must be "
        "wider than that of a study judged once, because there are {n} chances of a false claim.",
        "在任何运行之前计划：在 {looks} 个区组时评判，此外不评判。由于有 {n} 次误判的机会，每次的区间都比只评判一次的"
        "研究更宽。",
    ),
    "looks ahead": (
        "{n} blocks are complete so far. Nothing is judged before the first look, at {first} blocks.",
        "目前完整区组 {n} 个。在第一次评判（{first} 个区组）之前不作任何判定。",
    ),
    "looks next": (
        "Reached: look {index} of {n}, at {blocks} blocks. Still open: {effects}. The next look is at {next} blocks.",
        "已到第 {index} 次评判（共 {n} 次，{blocks} 个区组）。尚未判定：{effects}。下一次评判在 {next} 个区组时。",
    ),
    "looks decided": (
        "The study has ended at look {index} of {n}, at {blocks} blocks: every effect is decided.",
        "研究在第 {index} 次评判（共 {n} 次，{blocks} 个区组）时结束：所有效应都已判定。",
    ),
    "looks last": (
        "The study has ended at its last look, at {blocks} blocks. Left open: {effects}; more blocks would be a new "
        "study.",
        "研究在最后一次评判（{blocks} 个区组）时结束。仍未判定：{effects}；更多区组属于新的研究。",
    ),
    "looks futile": (
        "The study has ended at look {index} of {n}, at {blocks} blocks, for futility: what is open ({effects}) has "
        "less than {chance} % chance of a verdict by the last look. No verdict rests on this.",
        "研究在第 {index} 次评判（共 {n} 次，{blocks} 个区组）时因无望而结束：未判定的效应（{effects}）到"
        "最后一次评判时"
        "得出结论的机会不足 {chance} %。任何结论都不依赖于此。",
    ),
    "look": ("look {index}: {blocks} blocks", "第 {index} 次：{blocks} 个区组"),
    "look not reached": ("look {index}: not reached", "第 {index} 次：未到"),
    "look decided": (
        "Decided at look {index} of {n}, at {blocks} blocks.",
        "在第 {index} 次评判（共 {n} 次，{blocks} 个区组）时判定。",
    ),
    "look open": (
        "Open after look {index} of {n}; if mean and spread stay as they are, the chance of a verdict by the last "
        "look is {chance}.",
        "第 {index} 次评判（共 {n} 次）后仍未判定；若均值与离散不变，到最后一次评判时得出结论的机会为 {chance}。",
    ),
    "look open short": ("Open after look {index} of {n}.", "第 {index} 次评判（共 {n} 次）后仍未判定。"),
    "look last open": ("Open at the last look, at {blocks} blocks.", "最后一次评判（{blocks} 个区组）时仍未判定。"),
    "look none": ("Not judged yet.", "尚未评判。"),
    "looks figure text": (
        "One row for each look. Thin line: interval that judges direction; thick line: interval that judges "
        "equivalence; grey band: the margin. An arrow: the interval reaches further. Pale: decided before, shown and "
        "not judged.",
        "每行一次评判。细线：判断方向的区间；粗线：判断等价的区间；灰带：界限。箭头：区间延伸到图外。浅色：之前已经"
        "判定，仅供展示。",
    ),
    "looks description": (
        "{effect} at each look, margin ±{margin}: {values}. {state}",
        "{effect}，各次评判，界限 ±{margin}：{values}。{state}",
    ),
    "looks value": ("{look}: {figure} {word}", "{look}：{figure} {word}"),
    "looks title": ("Effects at each look", "各次评判的效应"),
    "look head": ("Look", "评判"),
    "chance head": ("Chance of a verdict", "得出结论的机会"),
    "shown only": ("shown only ({word} before)", "仅供展示（此前已判为{word}）"),
    "futile": ("{chance}, may be given up", "{chance}，可以放弃"),
    "looks table note": (
        "Chance: that the last look decides the effect, if mean and spread stay as they are. Below {chance} % giving "
        "up is allowed and forced by nothing.",
        "机会：若均值与离散不变，最后一次评判能作出判定的机会。低于 {chance} % 时允许放弃，但并不强制。",
    ),
    "design looks": (
        "{arms} arms × up to {blocks} blocks, at most {runs} runs. A block is one seed ({seeds}): {shared}, so that an "
        "effect is a paired difference. The study ends when every effect is decided, or at its last look{futility}.",
        "{arms} 个实验组 × 至多 {blocks} 个区组，至多 {runs} 次运行。一个区组即一个种子（{seeds}）：{shared}，"
        "因此效应是配对差。所有效应判定后，或到最后一次评判时，研究结束{futility}。",
    ),
    "design futility": (
        ", or when every open effect is futile",
        "；若所有未判定的效应都已无望，研究也可结束",
    ),
    "intervals looks": (
        "Effects of a family share α = {alpha} (Bonferroni): {families}. The intervals are repeated confidence "
        "intervals (Jennison and Turnbull 1989) of O'Brien-Fleming shape (spending of Lan and DeMets 1983), with "
        "boundaries by Monte Carlo of the t path: those of all looks and all effects of a family cover at once with "
        "probability at least {joint}, whatever rule stops the study.",
        "同族效应共享 α = {alpha}（Bonferroni）：{families}。区间为重复置信区间（Jennison 与 Turnbull 1989），"
        "O'Brien-Fleming 形状（Lan 与 DeMets 1983 的消耗函数），界值由 t 路径的蒙特卡罗得到：无论以何种规则停止，"
        "一族所有效应在所有评判时的区间以至少 {joint} 的概率同时覆盖。",
    ),
    "verdicts looks": (
        "Better or worse: the direction interval excludes 0. Equivalent: the equivalence interval lies inside the "
        "margin of ±{margin} mIoU points. Else inconclusive. The margin and the looks ({looks} blocks) were fixed "
        "before any run; an effect keeps the verdict of the look that decided it.",
        "更好或更差：方向区间不含 0。等价：等价性区间落在 ±{margin} 个 mIoU 点的界限之内。其余为尚无定论。"
        "界限与各次评"
        "判（{looks} 个区组）在任何运行之前确定；效应保留作出判定的那次评判的结论。",
    ),
    "plain: before look": (
        "Not judged yet: {n} complete blocks, and the first look is at {first}.",
        "尚未评判：完整区组 {n} 个，第一次评判在 {first} 个区组时。",
    ),
    "plain: open look": (
        "Open so far: these {n} blocks are compatible with anything from {low} to {high} mIoU points; the study goes "
        "on to {next} blocks.",
        "目前尚无定论：这 {n} 个区组与 {low} 到 {high} 个 mIoU 点之间的任何效应都相容；研究继续到 {next} 个区组。",
    ),
    "plain: lost": (
        "Cannot be told: {lost} of {all} blocks are incomplete, and what the others say would not hold for"
        " every score "
        "that the lost runs might have had.",
        "无法判断：{all} 个区组中有 {lost} 个不完整，其余区组的结论并非对缺失运行的任何得分都成立。",
    ),
    "aliased": ("undecided (aliased)", "未定（混杂）"),
    # --- factors --------------------------------------------------------------------------------
    "factors": ("Factors and how they act together", "因素及其共同作用"),
    "factors text": (
        "Mean mIoU of all arms at a level, over {n} complete blocks. Pale lines are the blocks: an effect is real "
        "when they slope alike, however far apart they lie.",
        "某一水平下所有实验组的平均 mIoU，取 {n} 个完整区组。浅线为各区组：无论相距多远，只要斜率一致，效应就是真实的"
        "。",
    ),
    "factors none": ("No block has a finished run of every arm yet.", "还没有任何区组完成了所有实验组的运行。"),
    "main effects": ("Main effects", "主效应"),
    "interaction plot": ("Two factors at a time", "两个因素的共同作用"),
    "interactions text": (
        "Parallel lines: the two factors add up. What is judged are the effects of the family “interactions” in the "
        "table below.",
        "线条平行：两个因素的作用相加。被评判的是下表中“交互”族的效应。",
    ),
    "interactions shown": (
        "Parallel lines: the two factors add up. Shown, not judged: with more than two levels no single effect says "
        "it.",
        "线条平行：两个因素的作用相加。仅供展示，不作判定：因素多于两个水平时没有单一的效应能够说明。",
    ),
    "factor title": ("{one} by {other}", "{one} × {other}"),
    "factors description": ("Mean mIoU in points by level: {values}.", "各水平的平均 mIoU（点）：{values}。"),
    "factor value": ("{level} {value}", "{level} {value}"),
    "factor values": ("{factor}: {values}", "{factor}：{values}"),
    "mean miou": ("mean mIoU (points)", "平均 mIoU（点）"),
    "levels title": ("Mean mIoU by level", "各水平的平均 mIoU"),
    "factor": ("Factor", "因素"),
    "level": ("Level", "水平"),
    "arms head": ("Arms", "实验组数"),
    "levels note": (
        "mIoU in points, mean over the arms at the level and over blocks. The intervals of the effects, not of these "
        "means, judge: most of a mean's spread is shared by all arms of a block.",
        "mIoU 以点计，为该水平各实验组与各区组的均值。判定依据是效应的区间而非这些均值：均值的离散大部分为"
        "同一区组的所"
        "有实验组所共有。",
    ),
    "aliases title": ("What this half cannot tell apart", "此半数设计无法区分的效应"),
    "aliases head": ("Shares its estimate with", "与之共享估计的效应"),
    "aliases main": (
        "judged, if effects of three factors and more are taken as nothing",
        "可以评判（若三个及以上因素的交互视为零）",
    ),
    "aliases note": (
        "A half fraction is for main effects. An effect of two factors has the same estimate as another on"
        "e, so every "
        "statement about two factors is undecided (aliased) here.",
        "半数设计只用于主效应。两个因素的交互与另一效应的估计相同，因此关于两个因素的任何陈述在这里都是未定（混杂）。",
    ),
    # --- classes and images ---------------------------------------------------------------------
    "class changes": ("Differences by class", "各类别的差异"),
    "class changes text": (
        "Exploratory, not judged: each interval is the {level} t interval of one class alone, over the sam"
        "e blocks as "
        "the verdict. Of {n} classes about {chance} would exclude 0 by chance.",
        "探索性结果，不作判定：每个区间是单个类别的 {level} t 区间，所用区组与结论相同。{n} 个类别中约有 {"
        "chance} 个会"
        "仅因偶然而不含 0。",
    ),
    "class changes none": ("The runs hold no IoU by class.", "运行中没有各类别的 IoU。"),
    "class changes title": ("Effects on the IoU of each class, points", "对各类别 IoU 的效应（点）"),
    "class description": ("{effect}, effect on each class: {values}.", "{effect}，对各类别的效应：{values}。"),
    "image changes": ("Images that changed most", "变化最大的图像"),
    "image changes text": (
        "Difference of an image's own mIoU (over the classes of its mask), averaged over {n} blocks. Explo"
        "ratory, not "
        "judged: the extremes of {images} images are extreme by chance too, which is why the spread over s"
        "eeds and the "
        "number of blocks that agree stand beside them.",
        "单张图像自身 mIoU（取其掩码中的类别）之差，对 {n} 个区组取平均。探索性结果，不作判定：{images} 张"
        "图像中的极端"
        "者也有偶然的成分，因此并列给出种子间的离散与方向一致的区组数。",
    ),
    "image changes none": (
        "The runs hold no counts for each image, so it cannot be told which images changed.",
        "运行中没有每张图像的计数，无法得知哪些图像发生了变化。",
    ),
    "image changes title": ("{effect}: images that gain and lose most", "{effect}：得益与受损最多的图像"),
    "image": ("Image", "图像"),
    "picture": ("Picture and mask", "图像与掩码"),
    "picture alt": ("{name}: image, and beside it its mask", "{name}：图像及其掩码"),
    "gain head": ("Difference", "差异"),
    "sd seeds": ("Spread over seeds", "种子间离散"),
    "agree": ("Blocks that agree", "方向一致的区组"),
    "agree value": ("{n} of {blocks}", "{blocks} 个中的 {n} 个"),
    "image changes note": (
        "Points. Spread: standard deviation over blocks. Agree: blocks whose difference has the sign of the mean.",
        "单位为点。离散：各区组的标准差。一致：差异与均值同号的区组数。",
    ),
    "pictures missing": (
        "The data folder cannot be read from here, so there are names and no pictures.",
        "此处无法读取数据文件夹，因此只有名称而没有图像。",
    ),
    "images axis": ("images, from loss to gain", "图像，从受损到得益"),
    "images panel": ("{effect}: difference of each image (points)", "{effect}：每张图像的差异（点）"),
    "images description": (
        "{effect}: {up} of {n} images gain and {down} lose; the middle one changes by {median} points.",
        "{effect}：{n} 张图像中 {up} 张得益，{down} 张受损；居中者改变 {median} 点。",
    ),
    "images panel text": (
        "Each image's difference, in order; the band is ± one standard deviation over seeds.",
        "每张图像的差异，按大小排列；色带为种子间 ± 一个标准差。",
    ),
    # --- new images -----------------------------------------------------------------------------
    "new images": ("New seeds, and new images too", "新种子，以及新图像"),
    "new images text": (
        "The verdicts speak of new seeds on these images. Whoever asks about new images as well must add what the "
        "choice of these {images} images contributes, which makes the intervals wider.",
        "上述结论针对的是在这些图像上的新种子。若还要推及新图像，必须加上选取这 {images} 张图像所带来的变异，区间因此"
        "更宽。",
    ),
    "new images clusters": (
        "The data name {clusters} clusters (sequences, scenes); clusters count as independent.",
        "数据指明了 {clusters} 个簇（序列、场景）；簇之间视为独立。",
    ),
    "new images own": (
        "The data name no clusters, so every image counts as independent of the others.",
        "数据没有指明簇，因此每张图像都视为相互独立。",
    ),
    "new images suspect": (
        "But the names look like frames of {n} sequences, and frames of one sequence are alike: unless they are "
        "independent, these intervals are too narrow. Name the sequences in clusters.txt of the data folder.",
        "但文件名看起来像 {n} 个序列的帧，而同一序列的帧彼此相似：除非它们相互独立，否则这些区间过窄。请在"
        "数据文件夹的 "
        "clusters.txt 中指明序列。",
    ),
    "new images suspect one": (
        "But the names look like frames of one sequence, and frames of one sequence are alike: unless they are "
        "independent, these intervals are too narrow. Name the sequences in clusters.txt of the data folder.",
        "但文件名看起来像同一个序列的帧，而同一序列的帧彼此相似：除非它们相互独立，否则这些区间过窄。请在"
        "数据文件夹的 "
        "clusters.txt 中指明序列。",
    ),
    "new images: looks": (
        "Not judged: the study has looks, whose boundaries are made for the spread over seeds alone. Fix the number "
        "of seeds (--seeds) to ask about new images.",
        "不作判定：本研究有中期评判，其界值只针对种子间的离散。若要推及新图像，请固定种子数（--seeds）。",
    ),
    "new images: scores only": (
        "Not judged: the runs hold scores without counts for each image.",
        "不作判定：运行中只有得分，没有每张图像的计数。",
    ),
    "new images: unfinished": (
        "Not judged yet: this is done once, when every planned run has an outcome.",
        "尚未评判：待所有计划的运行都有结果时评判一次。",
    ),
    "new images: few blocks": (
        "Not judged: an effect has fewer than 2 complete blocks.",
        "不作判定：有效应的完整区组少于 2 个。",
    ),
    "new images: clusters unknown": (
        "Not judged: the data name clusters (sequences, scenes), and the study's folder does not hold which image "
        "belongs to which.",
        "不作判定：数据指明了簇（序列、场景），但研究的文件夹中没有记录每张图像属于哪个簇。",
    ),
    "new images: few clusters": (
        "Not judged: the images come from {clusters} clusters, and below {fewest} their variance is too uncertain to "
        "speak of new images.",
        "不作判定：图像来自 {clusters} 个簇，少于 {fewest} 个时其方差过于不确定，无法推及新图像。",
    ),
    "new images title": ("Both questions side by side", "两个问题并列"),
    "on these": ("New seeds, these images", "新种子，这些图像"),
    "on new": ("New seeds and new images", "新种子与新图像"),
    "share images": ("Variance from images", "图像带来的方差"),
    "new images note": (
        "Points [interval]. Variance from images: its share of the variance of the mean; 0 % where it does"
        " not exceed "
        "what images and seeds together explain.",
        "点 [区间]。图像带来的方差：其在均值方差中的占比；若不超过图像与种子的交互所能解释的部分，则为 0 %。",
    ),
    # --- claims ---------------------------------------------------------------------------------
    "claims": ("The document's statements", "原文档的陈述"),
    "claims text": (
        "Each statement of the source document, with what this study found. An answer is supported or refuted only "
        "where an interval says so.",
        "原文档的每条陈述以及本研究的发现。只有区间支持时才判为支持或不成立。",
    ),
    "claims title": ("Statements and answers", "陈述与回答"),
    "claims note": (
        "Effects are the judged ones and share their alpha. All other intervals are {level} t intervals over {n} "
        "blocks, each at its own level and not adjusted for there being several{looks}. x: a factor, 1 is no change. "
        "A loss spike is a recorded loss above {spike:g} times the median of the nine before it; steps to 90 % are "
        "read off straight lines between validations.",
        "效应为被评判的效应，共享其 alpha。其余区间均为 {n} 个区组上的 {level} t 区间，各自独立，未作多重"
        "校正{looks}。"
        "x 表示倍数，1 为无变化。损失尖峰：记录的损失高于前九个中位数的 {spike:g} 倍；达到 90 % 的步数由两"
        "次验证之间的"
        "直线读出。",
    ),
    "claims note looks": (", nor for the looks", "，也未针对中期评判校正"),
    "statement": ("Statement", "陈述"),
    "answer head": ("Answer", "回答"),
    "finding head": ("What was found", "发现"),
    "supported": ("supported", "支持"),
    "refuted": ("refuted", "不成立"),
    "undecided": ("undecided", "未定"),
    "silent": ("this study cannot speak to it", "本研究无法回答"),
    "silent why": ("It {need}.", "{need}。"),
    "quoted claim": ("{answer}: {statement} {finding}", "{answer}：{statement}{finding}"),
    "advice": ("What to do", "如何选择"),
    "advice text": (
        "For the document's three situations. The rule: what is not shown to gain something that may matter is kept "
        "fixed, because a knob less is a knob less; gates stay learnable unless fixing them is shown to cost nothing "
        "that matters.",
        "针对原文档的三种情况。规则：未显示有意义收益的，就保持固定，因为少一个可调参数总是好的；门控保持可学习，除非"
        "已证明固定它没有有意义的损失。",
    ),
    "situation": ("Situation", "情况"),
    "reasons head": ("Why", "理由"),
    "gates apart": (
        "This study fixes one gate at a time: {effects}.",
        "本研究每次只固定一个门控：{effects}。",
    ),
    "gate effect": ("{effect} {figure}, {word}", "{effect} {figure}，{word}"),
    # --- change ---------------------------------------------------------------------------------
    "changes title": ("What each verdict turns on", "每个结论取决于什么"),
    "at this spread": ("At this spread", "按此离散程度"),
    "thresholds": (
        "better from +{direction}, worse from -{direction}, equivalent within ±{equivalent}",
        "达到 +{direction} 为更好，达到 -{direction} 为更差，±{equivalent} 之内为等价",
    ),
    "thresholds no": (
        "better from +{direction}, worse from -{direction}, equivalent nowhere",
        "达到 +{direction} 为更好，达到 -{direction} 为更差，无处可判等价",
    ),
    "one block head": ("Nearest change of one block", "单个区组的最小改变"),
    "one block": ("{shift} points in seed {seed}: {word}", "种子 {seed} 改变 {shift} 点：{word}"),
    "one block none": ("none within ±{largest:g} points", "±{largest:g} 点之内没有"),
    "without head": ("One block left out", "去掉一个区组"),
    "without none": ("stays {word}", "仍为{word}"),
    "without some": ("seed {seed}: {word}", "去掉种子 {seed}：{word}"),
    "by lost": ("the {n} lost blocks keep it open", "因缺失的 {n} 个区组而未定"),
    "changes note": (
        "At this spread: the mean effects at which the verdict would turn, in points. One block: the smallest change "
        "of one block's value that gives another verdict. Left out: the same judgement without each block "
        "in turn; it "
        "says whether any single block decides, and is no verdict.",
        "按此离散程度：使结论改变的平均效应（点）。单个区组：使结论改变的单个区组值的最小改变。去掉一个区组：依次去掉"
        "每个区组后的同样评判；它说明是否由单个区组决定，本身不是结论。",
    ),
    "changes lone": (
        "One block decides {effects}: without it the verdict is another. Read it with that in mind.",
        "{effects} 由单个区组决定：去掉它结论就不同，阅读时请留意。",
    ),
    "changes stable": (
        "No single block decides any verdict: leaving out any one of them gives the same words.",
        "没有任何结论由单个区组决定：去掉任何一个区组，结论都相同。",
    ),
    # --- protocol -------------------------------------------------------------------------------
    "protocol": ("Protocol", "研究方案"),
    "margin": ("Margin", "界限"),
    "margin value": ("±{margin} mIoU points, fixed before any run", "±{margin} 个 mIoU 点，在任何运行之前确定"),
    "alpha": ("α and families", "α 与效应族"),
    "alpha value": ("α = {alpha} in each family; {families}", "每族 α = {alpha}；{families}"),
    "seeds value": ("{seeds}, fixed before any run, judged once", "{seeds}，在任何运行之前确定，只评判一次"),
    "looks value card": ("at {looks} blocks{futility}", "在 {looks} 个区组时{futility}"),
    "futility card": (", stops for futility allowed", "，允许因无望而停止"),
    "splits": ("Splits", "数据划分"),
    "split value": ("{split}: {n} images, SHA-256 {sha}", "{split}：{n} 张图像，SHA-256 {sha}"),
    "split value short": ("{split}: {n} images", "{split}：{n} 张图像"),
    "weights": ("Scored weights", "评分所用权重"),
    "times scored": ("How often splits were scored", "各划分被评分的次数"),
    "times value": (
        "{split}: {final} times for the verdicts, once at the end of each finished run, and {curve} times during "
        "training for curves, which choose nothing",
        "{split}：为得出结论 {final} 次（每次完成的运行结束时一次），训练中为画曲线 {curve} 次，曲线不用于任何选择",
    ),
    "times selection": (
        "{split}: best.safetensors was chosen on it in {n} runs; the verdicts score the last weights all the same",
        "{split}：有 {n} 次运行据此挑选 best.safetensors；结论仍用最后的权重评分",
    ),
    "times no test": (
        "no other split, a test split above all, was scored",
        "没有对其他任何划分（尤其是测试集）评分",
    ),
    "decay": ("Decay", "权重衰减"),
    "decay value": ("{role} {decay:g}", "{role} {decay:g}"),
    "decay arm": ("{arm}: {values}", "{arm}：{values}"),
    "role weights": ("weights", "权重"),
    "role norms and biases": ("norms and biases", "归一化与偏置"),
    "role temperatures": ("temperatures", "温度"),
    "role gates": ("gates", "门控"),
    "runner": ("Runs made by", "运行由"),
    "runner own": ("semalign's own training", "semalign 自身的训练"),
    "pilot false positives": ("Directions found in swapped pairs", "交换配对后仍得出方向的比例"),
    "false positives value": ("{found} (should be {level})", "{found}（应为 {level}）"),
    # --- paper ----------------------------------------------------------------------------------
    "paper heading": ("Methods and results", "方法与结果"),
    "paper arms": (
        "We compared {arms} configurations ({names}) on {data}, scored on the {images} images of the split “{split}” "
        "by mean intersection over union from summed counts.",
        "我们在{data}上比较了 {arms} 种配置（{names}），在划分“{split}”的 {images} 张图像上评分，指标为由像素计数求和"
        "得到的平均交并比。",
    ),
    "paper arms command": (
        "We compared {arms} configurations ({names}) by the score of one run each per seed.",
        "我们比较了 {arms} 种配置（{names}），每个种子各运行一次并取其得分。",
    ),
    "paper blocks": (
        "The runs of one seed form a block and {shared}; an effect is the mean paired difference over "
        "blocks. The number of seeds ({blocks}) and the margin of ±{margin} mIoU points "
        "were fixed before any run.",
        "同一种子的运行构成一个区组，{shared}；效应为各区组配对差的均值。种子数（{bloc"
        "ks}）与界限 "
        "±{margin} 个 mIoU 点在任何运行之前确定。",
    ),
    "paper shares": ("share initial weights, data order and augmentation", "共享初始权重、数据顺序与增强"),
    "paper shares command": ("were given the same seed", "得到相同的种子"),
    "paper looks": (
        "The runs of one seed form a block and {shared}; an effect is the mean paired difference over "
        "blocks. The margin of ±{margin} mIoU points and looks at {looks} blocks were "
        "fixed before any run; intervals are repeated confidence intervals (Jennison and Turnbull, 1989) of "
        "O'Brien-Fleming shape (Lan and DeMets, 1983) for the t statistic.",
        "同一种子的运行构成一个区组，{shared}；效应为各区组配对差的均值。界限 ±{margin"
        "} 个 mIoU 点"
        "以及在 {looks} 个区组时的评判均在任何运行之前确定；区间为针对 t 统计量的 O'Brien-Fleming 形状（Lan 与 DeMets"
        "，1983）的重复置信区间（Jennison 与 Turnbull，1989）。",
    ),
    "paper judged": (
        "Effects of a family share α = {alpha} by Bonferroni ({families}): an effect has a direction when its "
        "interval excludes 0, and two configurations are called equivalent when the interval of two one-sided tests "
        "lies inside the margin.",
        "同族效应以 Bonferroni 法共享 α = {alpha}（{families}）：区间不含 0 时效应有方向；双单侧检验的区间"
        "落在界限之内"
        "时，两种配置判为等价。",
    ),
    "paper failed": (
        "{failed} of {runs} runs failed; failed runs are outcomes, and a verdict stands only where it holds whatever "
        "they had scored.",
        "{runs} 次运行中有 {failed} 次失败；失败的运行也是结果，只有无论其得分如何都成立的结论才成立。",
    ),
    "paper none failed": ("None of the {runs} runs failed.", "{runs} 次运行均未失败。"),
    "paper effect": (
        "{effect}: {figure} mIoU points ({level} interval, {n} blocks), {word}.",
        "{effect}：{figure} 个 mIoU 点（{level} 区间，{n} 个区组），{word}。",
    ),
    "paper open": ("{effect}: not judged yet.", "{effect}：尚未评判。"),
    "paper images": (
        "These intervals speak of new seeds on the same images.",
        "这些区间针对的是相同图像上的新种子。",
    ),
    "paper new images": (
        "For new images too ({clusters} clusters): {effects}.",
        "若还推及新图像（{clusters} 个簇）：{effects}。",
    ),
    "paper state": ("The study is not finished: {state}", "研究尚未完成：{state}"),
    "tex notes": (
        "Tables of the study {name}; needs the package booktabs.",
        "研究 {name} 的表格；需要 booktabs 宏包，以及 ctex（用 XeLaTeX 编译）。",
    ),
}
"""By key the English and the Chinese sentence; both take the same values."""

_FIXED = {
    # Texts of semalign.judge.contrasts and semalign.train, which are written in English.
    "Does a learnable encoder temperature change the mIoU (ablation 1)?": (
        "可学习的编码器温度会改变 mIoU 吗（消融 1）？"
    ),
    "Does fixing the gates of encoder and decoder change the mIoU (ablation 2)?": (
        "固定编码器与解码器的门控会改变 mIoU 吗（消融 2）？"
    ),
    "Does a learnable encoder temperature with fixed gates change the mIoU against the Baseline (ablation 2)?": (
        "在门控固定时，可学习的编码器温度与基线相比会改变 mIoU 吗（消融 2）？"
    ),
    "Does a learnable encoder temperature gain less where the gates are learnable too, that is, do they compete?": (
        "门控也可学习时，可学习编码器温度的收益是否更小，即两者是否竞争？"
    ),
    "How does the model score that was trained without text?": "不用文本训练的模型得分如何？",
    "How does the model score whose texts are random vectors of equal norm?": "以等范数随机向量为文本的模型得分如何？",
    "How does the model score whose texts were made from the image's own mask (leaking)?": (
        "以由图像自身掩码生成的文本（泄漏）为输入的模型得分如何？"
    ),
    "Which of the encoder's temperature and the two gates should be learnable?": (
        "编码器温度与两个门控中，哪些应当可学习？"
    ),
    "Should the encoder's temperature be learnable?": "编码器温度应当可学习吗？",
    "Do temperature and gate do the same work?": "温度与门控的作用是否相同？",
    "temperature and gate reinforce each other": "温度与门控相互增强",
    "temperature and gate compete": "温度与门控相互竞争",
    "more together than apart": "合用的收益大于分别之和",
    "less together than apart": "合用的收益小于分别之和",
    # Texts of the built-in study files.
    "Which of temperature and gate, in encoder and decoder, should be learnable?": (
        "编码器与解码器的温度与门控中，哪些应当可学习？"
    ),
    "At which stages of the encoder and which levels of the decoder should text come in?": (
        "文本应在编码器的哪些阶段、解码器的哪些层级引入？"
    ),
    "Does a learnable encoder temperature gain by learning, or only by the value it ends with?": (
        "可学习的编码器温度是因学习而得益，还是仅因其最终的值而得益？"
    ),
    "Should weight decay act on temperatures and gates?": "权重衰减应当作用于温度与门控吗？",
    "Does learning gain anything over having the learned value from the first step on?": (
        "与从第一步起就取学到的值相比，学习本身有收益吗？"
    ),
    "Does the learned value gain anything over the value that a temperature starts with?": (
        "与温度的起始值相比，学到的值有收益吗？"
    ),
    "Does a learnable encoder temperature gain anything over one that is fixed at its start?": (
        "与固定在起始值的编码器温度相比，可学习的编码器温度有收益吗？"
    ),
    "On scenes whose objects only the text can name, does the model use its text, and should the encoder's "
    "temperature be learnable?": "在只有文本能指明物体类别的场景上，模型是否用到了文本？编码器温度应当可学习吗？",
    "Encoder/Decoder temperature design analysis, Ablation 1": "《Encoder/Decoder温度参数设计对比分析》，消融 1",
    "Encoder/Decoder temperature design analysis, Ablation 2": "《Encoder/Decoder温度参数设计对比分析》，消融 2",
    "Encoder/Decoder temperature design analysis, Ablation 1 and 2": (
        "《Encoder/Decoder温度参数设计对比分析》，消融 1 与 2"
    ),
    "Encoder/Decoder temperature design analysis, all settings of its four knobs": (
        "《Encoder/Decoder温度参数设计对比分析》，四个参数的全部组合"
    ),
    "Encoder/Decoder temperature design analysis, half of all settings of its four knobs": (
        "《Encoder/Decoder温度参数设计对比分析》，四个参数全部组合的一半"
    ),
    "Encoder/Decoder temperature design analysis, where its two alignments stand": (
        "《Encoder/Decoder温度参数设计对比分析》，两种对齐所在的位置"
    ),
    "Encoder/Decoder temperature design analysis, what a fixed temperature gives up": (
        "《Encoder/Decoder温度参数设计对比分析》，固定温度所放弃的"
    ),
    "the optimizer's part in a learnable temperature and gate": "优化器在可学习温度与门控中的作用",
    "Ablation 1: encoder temperature": "消融 1：编码器温度",
    "Ablation 2: temperature vs gate": "消融 2：温度与门控",
    "Controls: does the model use its text?": "对照：模型是否用到了文本？",
    "Control: does the model use its text?": "对照：模型是否用到了文本？",
    "Learning and value of the encoder's temperature, one per layer and head": ("编码器温度的学习与取值，每层每头一个"),
    "Arm": "实验组",
    "Encoder temperature": "编码器温度",
    "Decoder temperature": "解码器温度",
    "Encoder": "编码器",
    "Decoder": "解码器",
    "Text": "文本",
    "Variant A": "变体 A",
    "Variant B": "变体 B",
    "Variant C": "变体 C",
    "fixed": "固定",
    "learnable": "可学习",
    "fixed temperature + learnable gate": "固定温度 + 可学习门控",
    "learnable temperature + learnable gate": "可学习温度 + 可学习门控",
    "fixed temperature + fixed gate": "固定温度 + 固定门控",
    "learnable temperature + fixed gate": "可学习温度 + 固定门控",
    "as given": "原样",
    "none (trained without)": "无（训练时不用）",
    "random vectors of equal norm": "等范数的随机向量",
    "class names read off each image's mask (leaking)": "由每张图像的掩码读出的类别名（泄漏）",
    "each image's own caption": "每张图像自己的描述",
    "fixed at 1/sqrt(d)": "固定为 1/sqrt(d)",
    "learnable, starting from 1/sqrt(d)": "可学习，从 1/sqrt(d) 开始",
    "fixed at the value that the same seed's learnable run ended with": "固定为同一种子的可学习运行最终得到的值",
    "value-matched": "数值匹配",
    "no text": "无文本",
    "random vectors": "随机向量",
    "mask texts": "掩码文本",
    # Texts of semalign.train and of a pilot.
    "no text: the model is built without it": "无文本：模型不含文本",
    "one sentence per class, the same for every image": "每个类别一句，所有图像相同",
    "each image's own texts": "每张图像自己的文本",
    "names of the classes in each image's mask (leaks the answer)": "每张图像掩码中的类别名（泄漏答案）",
    "random vectors of equal norm in place of the class sentences": "以等范数的随机向量代替类别句子",
    "the text is the same for all images and carries no information about any one of them": (
        "所有图像的文本相同，不携带任何单张图像的信息"
    ),
    "the text is made from the masks that are scored (leaking)": "文本由被评分的掩码生成（泄漏）",
    "Whether pairing pays cannot be told: it takes 4 blocks whose scores vary.": (
        "无法判断配对是否有益：需要 4 个得分有变化的区组。"
    ),
    "The paired runs are identical to the last digit, so this pilot shows no noise of an effect: arms that differ "
    "will show more.": "配对的运行完全相同，因此此预试验没有显示效应的噪声：不同的实验组会显示更多。",
}

_PATTERNS = tuple(
    (re.compile(pattern), chinese)
    for pattern, chinese in (
        # Questions of semalign.judge.contrasts.
        (r"Does (?P<first>.+) score otherwise than (?P<second>.+)\?", "{first} 的得分与 {second} 不同吗？"),
        (
            r"Does (?P<factor>.+) in place of (?P<usual>.+) change the mIoU, over all settings of the rest\?",
            "在其余因素的所有设置下取平均，以 {factor} 代替 {usual} 会改变 mIoU 吗？",
        ),
        (
            r"Do changes of (?P<one>.+) and of (?P<other>.+) add up, or gain more or less together\?",
            "{one} 与 {other} 的改变是相加，还是合用时收益更大或更小？",
        ),
        # Notes of semalign.judge.judgement and of a pilot.
        (
            r"(?P<n>\d+) of (?P<all>\d+) planned blocks have no run: the study is not finished, and a verdict stands "
            r"only where it holds whatever they may bring\.",
            "计划的 {all} 个区组中有 {n} 个没有运行：研究尚未完成，只有无论其结果如何都成立的结论才成立。",
        ),
        (
            r"(?P<n>\d+) blocks have runs, and the study was planned for looks at (?P<looks>.+): the "
            r"judgement is that "
            r"of the first (?P<reached>\d+) blocks, and more blocks after a look at the results are a new study\.",
            "已有 {n} 个区组的运行，而研究计划在 {looks} 个区组时评判：判定取自前 {reached} 个区组；看过结"
            "果后更多的区"
            "组属于新的研究。",
        ),
        (
            r"(?P<n>\d+) blocks have runs, and nothing is judged before the first look, at (?P<first>\d+) blocks\.",
            "已有 {n} 个区组的运行；在第一次评判（{first} 个区组）之前不作任何判定。",
        ),
        (
            r"(?P<n>\d+) blocks have runs, and the study is judged at (?P<looks>.+) blocks and at no "
            r"other moment: the "
            r"judgement is that of the first (?P<reached>\d+) blocks, and the next look is at (?P<next>\d+)\.",
            "已有 {n} 个区组的运行，而研究只在 {looks} 个区组时评判：判定取自前 {reached} 个区组，下一次评"
            "判在 {next} "
            "个区组时。",
        ),
        # Doubts that a pilot raises, of semalign.judge.pilot.
        (
            r"(?P<name>.+) is called (?P<word>better|worse) at (?P<mean>\S+) points, and two identical "
            r"recipes of the pilot "
            r"differ by (?P<pilot>\S+): an effect of that size has been seen where there is none\.",
            "{name} 被判为有方向（{mean} 点），而预实验中两个完全相同的配方相差 {pilot} 点：没有任何改变时"
            "也见过这么大的差。",
        ),
        (
            r"(?P<name>.+) is called (?P<word>better|worse), and the pilot's noise has heavier tails than "
            r"the test takes it "
            r"to have: see the share of false positives there\.",
            "{name} 被判为有方向，而预实验的噪声比检验所假定的尾部更重：见预实验的假阳性比例。",
        ),
        (
            r"(?P<name>.+) varies by (?P<sd>\S+) points from seed to seed, more than identical recipes "
            r"can explain \(at most "
            r"(?P<most>\S+)\): the effect itself depends on the seed\.",
            "{name} 在种子之间的变化为 {sd} 点，超出相同配方所能解释的范围（至多 {most}）：效应本身取决于种子。",
        ),
        (
            r"Swapping the two runs of each block in all ways, the t test finds a direction in "
            r"(?P<share>\S+) of them, twice "
            r"or more what it should \((?P<level>\S+)\): this noise has heavier tails than the normal "
            r"one, and a verdict near "
            r"its boundary is to be doubted\.",
            "把每个区组的两次运行以所有方式互换，t 检验在 {share} 的情形下判出方向，达到应有值（{level}）"
            "的两倍以上：噪声的尾部"
            "比正态更重，靠近界限的结论值得怀疑。",
        ),
        (
            r"The two identical recipes differ by (?P<mean>\S+) points \(p (?P<p>[^)]+)\): look for what "
            r"differs between them "
            r"before believing any effect of that size\.",
            "两个相同的配方相差 {mean} 点（p {p}）：在相信这么大的效应之前，先找出它们之间的差别。",
        ),
        (
            r"(?P<name>.+): the difference is 0 in every block, so these arms compute the same\.",
            "{name}：每个区组的差都是 0，因此这些实验组的计算相同。",
        ),
        (
            r"(?P<name>.+): the difference is the same in all (?P<n>\d+) blocks, which real runs hardly ever give: "
            r"check how the scores were made\.",
            "{name}：全部 {n} 个区组的差都相同，真实的运行几乎不会如此：请检查得分是如何得到的。",
        ),
        (
            r"Swapping the two runs of each block in all ways, the t test finds a direction in "
            r"(?P<found>\S+) of them, "
            r"twice or more what it should \((?P<level>\S+)\): this noise has heavier tails than the "
            r"normal one, and a "
            r"verdict near its boundary is to be doubted\.",
            "以所有方式交换各区组的两次运行，t 检验在其中 {found} 得出方向，达到应有比例（{level}）的两倍或更多：此噪"
            "声的尾部比正态更重，接近边界的结论值得怀疑。",
        ),
        (
            r"The two identical recipes differ by (?P<mean>\S+) points \(p (?P<p>\S+)\): look for what "
            r"differs between "
            r"them before believing any effect of that size\.",
            "两个相同的配方相差 {mean} 点（p {p}）：在相信任何同样大小的效应之前，请先查明二者的差别。",
        ),
        # Notes of semalign.train.
        (
            r"the temperature of (?P<site>\S+) is learnable in name only: outside its clamp its gradient "
            r"is exactly 0",
            "{site} 的温度只是名义上可学习：在其截断范围之外，梯度恰为 0",
        ),
        (
            r"(?P<file>\S+) was chosen by its score on the split '(?P<split>.+)' that is also scored: its "
            r"score there "
            r"is too high; the score given here is of the averaged weights of the last step",
            "{file} 是按其在划分“{split}”上的得分挑选的，而该划分也被评分：它在那里的得分偏高；此处给出的是最后一步平"
            "均权重的得分",
        ),
    )
)
"""English texts with numbers or names in them, and their Chinese."""
