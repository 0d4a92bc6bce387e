"""The Chinese of English texts that other parts of the package write."""

from __future__ import annotations

import re

from semalign.wording import Language

__all__ = ["known"]


def known(text: str, lang: Language) -> str:
    """Return the translation of a text that the package itself wrote elsewhere, else the text."""
    if lang == "en":
        return text
    if text in _FIXED:
        return _FIXED[text]
    for pattern, chinese in _PATTERNS:
        if found := pattern.fullmatch(text):
            return chinese.format(**found.groupdict())
    return text


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
