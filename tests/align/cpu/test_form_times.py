"""The modelled times of the forms."""

import itertools
from typing import Any

import pytest

from semalign.align.cpu.form_times import AlignmentCall, cheapest_form, folded_ms, sdpa_ms

SITES = ((128, 4, 19200), (256, 8, 4800), (512, 16, 1200))


def site(channels: int, heads: int, rows: int, tokens: int, texts: int = 1, **more: Any) -> AlignmentCall:
    """Return a call of a site with a text width of 384."""
    return AlignmentCall(channels, heads, rows, tokens, texts, 384, **more)


def test_by_hand() -> None:
    """A site's time is the sum of its calls, its numbers that pass by and its operations, each at its rate."""
    # 1000 positions, C = 100, H = 2, T = 5, Ct = 384, dot, training.
    products = 2 * 1000 * 100 * 10
    bank = 2 * 5 * 100 * 384 + 2 * 5 * 100**2
    folded = 0.70 + 3.96 * 0.01 + 2.53 * 0.1 + 3.44 * 0.01 + 2e-9 * (38.8 * products + 53.3 * bank)
    unfolded = 0.63 + 5.44 * 0.01 + 11.3 * 0.1 + 0.92 * 0.01
    unfolded += 2e-9 * (29.3 * 2 * 1000 * 100**2 + 26.3 * 2 * 5 * 100 * 384 + 31.1 * 2 * 1000 * 100 * 5)

    assert folded_ms(site(100, 2, 1000, 5)) == pytest.approx(folded)
    assert sdpa_ms(site(100, 2, 1000, 5)) == pytest.approx(unfolded)


@pytest.mark.parametrize("place", SITES)
@pytest.mark.parametrize("texts", [1, 4])
@pytest.mark.parametrize("training", [True, False])
def test_few_tokens_fold_and_many_do_not(place: tuple[int, int, int], texts: int, training: bool) -> None:
    """From some number of tokens on the unfolded form is taken, and from there on always."""
    forms = [cheapest_form(site(*place, tokens, texts, training=training)) for tokens in range(1, 151)]

    switch = forms.index("sdpa")
    assert set(forms[:switch]) == {"folded"}
    assert set(forms[switch:]) == {"sdpa"}
    assert 20 < switch < 60


def test_measured_choices() -> None:
    """What was measured clearly comes out as it was measured."""
    assert cheapest_form(site(128, 4, 19200, 40)) == "folded"  # 1.18 times as fast
    assert cheapest_form(site(256, 8, 4800, 40)) == "sdpa"  # folded would be 0.85
    assert cheapest_form(site(512, 16, 1200, 40)) == "sdpa"  # 0.74
    assert cheapest_form(site(64, 4, 120, 80, 4)) == "sdpa"  # 0.60
    assert cheapest_form(site(128, 4, 9600, 11)) == "folded"  # 3.2


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_times_grow(cosine: bool, training: bool) -> None:
    """More positions, tokens or texts never take less time; both forms are affine in positions and in tokens."""
    for form in (folded_ms, sdpa_ms):
        for channels, rows, tokens in itertools.product((64, 512), (30, 3000), (1, 100)):
            time = form(site(channels, 4, rows, tokens, cosine=cosine, training=training))
            more_rows = form(site(channels, 4, 2 * rows, tokens, cosine=cosine, training=training))
            more_tokens = form(site(channels, 4, rows, 2 * tokens, cosine=cosine, training=training))
            more_texts = form(site(channels, 4, rows, tokens, 3, cosine=cosine, training=training))
            assert min(more_rows, more_tokens, more_texts) > time > 0
            third = form(site(channels, 4, 3 * rows, tokens, cosine=cosine, training=training))
            assert third - more_rows == pytest.approx(more_rows - time)
            third = form(site(channels, 4, rows, 3 * tokens, cosine=cosine, training=training))
            assert third - more_tokens == pytest.approx(more_tokens - time)
