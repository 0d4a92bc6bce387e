"""The Chinese of English texts that other parts of the package write."""

from __future__ import annotations

import re

from semalign.wording import Catalogue, Language, Message

__all__ = ["known"]


def known(text: str | Message, lang: Language) -> str:
    """Return a message in the language, the translation of a text that the package wrote elsewhere, else the text."""
    if isinstance(text, Message):
        return Catalogue(lang).text(text)
    if lang == "en":
        return text
    if text in _FIXED:
        return _FIXED[text]
    for pattern, chinese in _PATTERNS:
        if found := pattern.fullmatch(text):
            return chinese.format(**found.groupdict())
    return text


_FIXED = {
    # Texts of the built-in study files.
    "Which of the encoder's temperature and the two gates should be learnable?": (
        "编码器温度与两个门控中，哪些应当可学习？"
    ),
    "Should the encoder's temperature be learnable?": "编码器温度应当可学习吗？",
    "Do temperature and gate do the same work?": "温度与门控的作用是否相同？",
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
    # Texts of semalign.train.
    "no text: the model is built without it": "无文本：模型不含文本",
    "one sentence per class, the same for every image": "每个类别一句，所有图像相同",
    "each image's own texts": "每张图像自己的文本",
    "names of the classes in each image's mask (leaks the answer)": "每张图像掩码中的类别名（泄漏答案）",
    "random vectors of equal norm in place of the class sentences": "以等范数的随机向量代替类别句子",
    "the text is the same for all images and carries no information about any one of them": (
        "所有图像的文本相同，不携带任何单张图像的信息"
    ),
    "the text is made from the masks that are scored (leaking)": "文本由被评分的掩码生成（泄漏）",
}

_PATTERNS = tuple(
    (re.compile(pattern), chinese)
    for pattern, chinese in (
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
