from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest

from semalign.palette import line_style
from semalign.report.figures.draw import draw, export
from semalign.report.figures.shapes import (
    EffectMark,
    EffectsPlot,
    FactorPanel,
    FactorsPlot,
    ForestMark,
    ForestPlot,
    Line,
    LookMark,
    LooksPlot,
    Panel,
    PanelsPlot,
)


def _panel(key: str = "p-1") -> Panel:
    x = np.array([0.0, 7.0, 11.0])
    y = np.array([0.99997, 0.9998, 0.9995])
    return Panel(key, 'a "curve" <of> 3 & more', "步", (Line(0, x, y, y - 0.001, y + 0.001), Line(9, x, y, y, y)))


def test_panel_is_an_element_of_a_page() -> None:
    """Text is text in the page's font, colors are CSS variables, and nothing has a fixed size or an address."""
    svg = draw(_panel())
    root = ET.fromstring(svg)
    texts = [element.text for element in root.iter("text")]

    assert root.attrib["aria-label"] == 'a "curve" <of> 3 & more'
    assert "width" not in root.attrib
    assert "步" in texts
    assert "var(--c0)" in svg
    assert "var(--c1)" in svg
    assert "#0000" not in svg
    assert "http" not in svg
    assert "<style" not in svg
    assert "font-family" not in svg


def test_small_differences_have_no_offset() -> None:
    """Entropies near 1 are labelled as they are, not as differences to a number above the axis."""
    texts = [element.text or "" for element in ET.fromstring(draw(_panel())).iter("text")]

    assert any(text.startswith("0.99") for text in texts)
    assert not any("e-" in text or text.startswith("+") for text in texts)


def test_effects_by_hand() -> None:
    """On an axis through 0 the mean stands halfway between the ends of its interval, to the right of the margin."""
    mark = EffectMark("A - B $x$ <b>", "+4.0 [+2.0, +6.0] better", "better", 4.0, (2.0, 6.0), (2.5, 5.5), (3.0, 5.0))
    svg = draw(EffectsPlot("e-0", "d", (mark,), 1.0, "points", "grey: ±1"))
    root = ET.fromstring(svg)
    ends = [
        [float(number) for number in element.attrib["d"].split()[1::3]]
        for element in root.iter("path")
        if "stroke: var(--better)" in element.attrib.get("style", "") and element.attrib.get("clip-path")
    ]
    outer, inner = ends
    (dot,) = [
        float(use.attrib["x"])
        for group in root.iter("g")
        if len(group) == 1
        for use in group.findall("use")
        if use.attrib["style"].startswith("fill: var(--better)")
    ]

    assert dot == pytest.approx(sum(outer) / 2, abs=0.02)
    assert outer[0] < inner[0] < dot < inner[1] < outer[1]
    assert (inner[1] - inner[0]) / (outer[1] - outer[0]) == pytest.approx(3 / 4, abs=0.001)
    assert "A - B $x$ <b>" in [element.text for element in root.iter("text")]


def test_same_input_same_bytes_and_own_ids() -> None:
    """Two drawings are equal; two keys share no id, so that both can stand in one page."""
    first, other = draw(_panel()), draw(_panel("p-2"))
    ids = [
        {element.attrib["id"] for element in ET.fromstring(svg).iter() if "id" in element.attrib}
        for svg in (first, other)
    ]

    assert first == draw(_panel())
    assert ids[0]
    assert not ids[0] & ids[1]


def test_global_state_is_left_alone() -> None:
    """A user's matplotlib settings neither change nor show; pyplot is not imported."""
    plain = draw(_panel())
    with matplotlib.rc_context({"font.size": 31, "axes.labelsize": 37}):
        assert draw(_panel()) == plain
        assert matplotlib.rcParams["font.size"] == 31
    assert "matplotlib.pyplot" not in sys.modules


def test_single_point_is_drawn() -> None:
    """A curve of one point is a mark with its range, not nothing."""
    one = np.array([0.5])
    svg = draw(Panel("p", "d", "step", (Line(3, np.array([10.0]), one, one - 0.1, one + 0.2),)))

    assert "var(--c3)" in svg


def test_forty_lines_differ() -> None:
    """No two of 40 arms share color and dashes."""
    assert len({line_style(index) for index in range(40)}) == 40


# --- files for a paper ----------------------------------------------------------------------------

DRAWINGS = (
    _panel("panel"),
    EffectsPlot(
        "effects",
        "effects",
        (EffectMark("A - B", "+4.0 better", "better", 4.0, (2.0, 6.0), (2.5, 5.5), (3.0, 5.0)),),
        1.0,
        "points",
        "grey: ±1",
    ),
    LooksPlot(
        "looks",
        "looks",
        (LookMark("look 1", "inconclusive", 1.0, (-9.0, 11.0), (-5.0, 7.0), False),),
        ("look 2",),
        1.0,
        3.0,
        "points",
    ),
    ForestPlot("forest", "forest", (ForestMark("car", 1.0, (0.5, 1.5)), ForestMark("sky", 2.0, None)), "points"),
    FactorsPlot(
        "factors",
        "factors",
        (FactorPanel("gate", ("no", "yes"), (("", (40.0, 41.0)),), np.array([[40.0, 41.0], [41.0, 42.0]])),),
        "points",
    ),
    PanelsPlot("panels", "panels", ((("one", _panel("x")), ("two", _panel("y"))),), (("A", 0), ("B", 9))),
)


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.key)
def test_files_are_whole_and_the_same_each_time(drawing: Panel) -> None:
    """A file has colors of its own, no date, no foreign metadata, and the same bytes when it is drawn again."""
    found = export(drawing)
    svg, pdf = found["svg"].decode(), found["pdf"]

    assert ET.fromstring(svg).tag.endswith("svg")
    assert "var(--" not in svg
    assert "#0000" not in re.sub(r"#000000", "", svg)
    assert "<dc:date>" not in svg
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert b"CreationDate" not in pdf
    assert export(drawing) == found


def test_chinese_stands_in_files_and_pages() -> None:
    """Chinese text is drawn without a warning, on whatever fonts the machine has."""
    drawing = ForestPlot("zh", "效应", (ForestMark("天空", 1.0, (0.5, 1.5)),), "效应（mIoU 点）")

    assert "天空" in draw(drawing)
    assert "天空" in export(drawing)["svg"].decode()


def test_what_lies_beyond_the_axis_ends_in_an_arrow() -> None:
    """The interval [-9, 11] on an axis of ±3 has an arrow at both ends; [-2, 1] on it has strokes."""

    def shapes(interval: tuple[float, float]) -> int:
        mark = LookMark("look 1", "better", 0.5, interval, None, False)
        svg = draw(LooksPlot("k", "d", (mark,), (), 1.0, 3.0, "points"))
        return len(re.findall(r'<path id="k-[^"]*"[^>]*d="[^"]*z', svg))

    assert shapes((-9.0, 11.0)) > shapes((-2.0, 1.0))
