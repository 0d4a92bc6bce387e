from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest

from semalign.report.figures import EffectMark, Line, Panel, draw_effects, draw_panel, line_style


def _panel(key: str = "p-1") -> Panel:
    x = np.array([0.0, 7.0, 11.0])
    y = np.array([0.99997, 0.9998, 0.9995])
    return Panel(key, 'a "curve" <of> 3 & more', "步", (Line(0, x, y, y - 0.001, y + 0.001), Line(9, x, y, y, y)))


def test_panel_is_an_element_of_a_page() -> None:
    """Text is text in the page's font, colours are CSS variables, and nothing has a fixed size or an address."""
    svg = draw_panel(_panel())
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
    texts = [element.text or "" for element in ET.fromstring(draw_panel(_panel())).iter("text")]

    assert any(text.startswith("0.99") for text in texts)
    assert not any("e-" in text or text.startswith("+") for text in texts)


def test_effects_by_hand() -> None:
    """On an axis through 0 the mean stands halfway between the ends of its interval, to the right of the margin."""
    mark = EffectMark("A - B $x$ <b>", "+4.0 [+2.0, +6.0] better", "better", 4.0, (2.0, 6.0), (2.5, 5.5), (3.0, 5.0))
    svg = draw_effects("e-0", "d", [mark], 1.0, "points", "grey: ±1")
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
    first, other = draw_panel(_panel()), draw_panel(_panel("p-2"))
    ids = [
        {element.attrib["id"] for element in ET.fromstring(svg).iter() if "id" in element.attrib}
        for svg in (first, other)
    ]

    assert first == draw_panel(_panel())
    assert ids[0]
    assert not ids[0] & ids[1]


def test_global_state_is_left_alone() -> None:
    """A user's matplotlib settings neither change nor show; pyplot is not imported."""
    plain = draw_panel(_panel())
    with matplotlib.rc_context({"font.size": 31, "axes.labelsize": 37}):
        assert draw_panel(_panel()) == plain
        assert matplotlib.rcParams["font.size"] == 31
    assert "matplotlib.pyplot" not in sys.modules


def test_single_point_is_drawn() -> None:
    """A curve of one point is a mark with its range, not nothing."""
    one = np.array([0.5])
    svg = draw_panel(Panel("p", "d", "step", (Line(3, np.array([10.0]), one, one - 0.1, one + 0.2),)))

    assert "var(--c3)" in svg


def test_forty_lines_differ() -> None:
    """No two of 40 arms share colour and dashes."""
    assert len({line_style(index) for index in range(40)}) == 40
