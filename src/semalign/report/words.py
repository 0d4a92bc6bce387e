"""The fixed sentences of a report in English and Chinese.

Both languages of a sentence stand together, so that none is forgotten.  This module knows nothing of numbers.
"""

from __future__ import annotations

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
        return _FIXED.get(text, text) if self.lang == "zh" else text

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
        "It cannot be told: the controls show neither a gain of {arm} from its text nor that there is none beyond the "
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
    "more blocks": ("{word} ({n} more blocks)", "{word}（还需 {n} 个区组）"),
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
        "{called}, but by too little to matter: {mean} mIoU points {interval}, shown to be smaller than the margin of "
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
    "reason": ("In full:", "完整理由（英文）："),
    # --- state ----------------------------------------------------------------------------------
    "state": (
        "{finished} of {planned} planned runs finished, {failed} failed, {missing} not run yet.",
        "计划的 {planned} 次运行中，{finished} 次完成，{failed} 次失败，{missing} 次尚未运行。",
    ),
    "state failed": ("Failed: {runs}.", "失败：{runs}。"),
    "state missing": ("Not run yet: {runs}.", "尚未运行：{runs}。"),
    "seed": ("{arm}, seed {seeds}", "{arm}，种子 {seeds}"),
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
        "difference to {baseline} over blocks, with the Bonferroni interval of its family ({families}). “n more "
        "blocks” "
        "is the size of a new pre-registered study; blocks already run cannot be counted in it.",
        "mIoU 以点计（0 到 100）：均值 ± 各种子 {level} t 区间的半宽。效应：各区组内与 {baseline} 的配对差的均值，"
        "并给出其族的 Bonferroni 区间（{families}）。“还需 n 个区组”指一项新的预注册研究的规模，已有区组不能计入。",
    ),
    "family level": ("{family}: {m} effects, {level}", "{family}：{m} 个效应，{level}"),
    "family level one": ("{family}: 1 effect, {level}", "{family}：1 个效应，{level}"),
    "primary": ("primary", "主要"),
    "controls": ("controls", "对照"),
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
        "Times are wall-clock times of runs that shared the machine. Train mIoU: the scored weights on a subset of the "
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
        "included; the reach of the logits, scale × |q| × |k|, tells how sharp the attention can be. A flat line is a "
        "frozen (or dead) knob.",
        "按对齐所在位置，同一阶段内各块取平均。尺度为温度的倒数（含基数）；对数几率幅度为 尺度 × |q| × |k|，"
        "反映注意力可达的尖锐程度。水平线表示该参数被冻结（或无梯度）。",
    ),
    "fusion": ("Fusion strength and attention entropy", "融合强度与注意力熵"),
    "fusion text": (
        "Strength |g·a|/|x| is how much the text branch adds to the stream; entropy 1 is attention spread evenly over "
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
        "{arms} arms × {blocks} blocks = {runs} runs. A block is one seed ({seeds}): all its arms share the initial "
        "weights of common parameters, the order of images and the augmentation, so that an effect is a paired "
        "difference.",
        "{arms} 个实验组 × {blocks} 个区组 = {runs} 次运行。一个区组即一个种子（{seeds}）：其中各组共享公共参数的初"
        "值、"
        "图像顺序和增强，因此效应是配对差。",
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
        "the mean over classes that occur. Scored weights: {weights}.",
        "由划分“{split}”的 {images} 张图像的像素计数求和得到数据集 IoU，按掩码原尺寸计算；mIoU 为出现类别的均值。"
        "评分所用权重：{weights}。",
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
        "The verdicts hold for this model, recipe and data; the blocks vary the seed, not the images, so a claim "
        "about new "
        "images is not made.",
        "结论只适用于此模型、配方与数据；区组改变的是种子而非图像，因此不对新图像作断言。",
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
}
