"""What alignments cost."""

from __future__ import annotations

import torch

from semalign.model.alignment import alignment_sites
from semalign.train.alignment_cost import alignment_cost
from semalign.train.run import build_model
from tests.small import tiny_options


def test_by_hand() -> None:
    """An encoder site of C channels at N positions and T tokens: projections, attention, projection, twice over."""
    options = tiny_options(align__encoder__stages=[3], align__decoder__levels=[])
    model = build_model(options, 3, 7, None, seed=1)
    (site,) = alignment_sites(model).values()
    c, positions, tokens = site.dim, 1 * 2, 5
    # q and o: N x C x C each; k and v: T x Ct x C each; scores and mix: N x T x C each; an operation is two.
    expected = 2 * (2 * positions * c * c + 2 * tokens * 7 * c + 2 * positions * tokens * c)

    cost = alignment_cost(model, (32, 43), tokens, 7)

    assert cost == {
        "encoder": {"sites": 1, "parameters": sum(p.numel() for p in site.parameters()), "operations": expected}
    }


def test_the_model_is_left_as_it_was() -> None:
    """Weights, running statistics, modes and forms are as before, and so is the random stream."""
    model = build_model(tiny_options(align__decoder__levels=[0, 1, 2, 3]), 3, 7, None, seed=1).train()
    model.decoder.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    forms = [site.form for site in alignment_sites(model).values()]
    stream = torch.get_rng_state()

    cost = alignment_cost(model, (37, 53), 3, 7)

    assert cost["decoder"]["sites"] == 4
    assert cost["decoder"]["operations"] > cost["encoder"]["operations"] > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [site.form for site in alignment_sites(model).values()] == forms
    assert torch.equal(torch.get_rng_state(), stream)
    assert model.training
    assert not model.decoder.training


def test_no_text_no_cost() -> None:
    """A model without text has no alignment to count."""
    model = build_model(tiny_options(data__text="none"), 3, None, None, seed=1)

    assert alignment_cost(model, (32, 43), 3, 7) == {}
