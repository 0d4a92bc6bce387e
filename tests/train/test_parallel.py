from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import semalign.api
from semalign.data.batches import load_images
from semalign.data.loading import TrainingBatches
from semalign.data.transforms import Augmentation
from semalign.errors import ConfigError
from semalign.results import RunResult, read_result
from semalign.train import parallel
from semalign.train.inputs import prepare_inputs
from semalign.train.loop import fit
from semalign.train.parallel import labelled_weight, make_fabric, mean_records, own_share, parts_of, share_statistics
from tests.small import TINY, scenes, tiny_options

CPU = make_fabric("cpu")
SHARED = (
    *TINY,
    "train.batch_size=6",
    "train.average=0.5",
    "train.epochs=3",
    "train.lr=1e-4",
    "train.scalar_lr=1e-4",
)
"""Three steps of six images.

Adam's first steps have the length of the rate whatever the gradient's size, so that rounding decides the way of a
weight whose gradient is near 0: at a small rate that counts little.
"""

# What a user's own script looks like: every process runs it.
SCRIPT = """
import sys
import semalign
from semalign.execution import Events
from semalign.train import state

data, out, stop_at, *settings = sys.argv[1:]
state.SAVE_EVERY_SECONDS = -1.0

def stepped(step, steps, loss):
    if step == int(stop_at):
        raise KeyboardInterrupt

semalign.train(data, out=out, device="cpu", resume=True, settings=settings, events=Events(stepped=stepped))
"""


def run_script(
    folder: Path, data: Path, out: str, *settings: str, stop_at: int = 0
) -> subprocess.CompletedProcess[str]:
    """Train by a script in processes of their own; stop at a step."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", str(script), str(data), str(folder / out), str(stop_at)]
    return subprocess.run([*command, *SHARED, *settings], capture_output=True, text=True, timeout=300, check=False)


def losses(result: RunResult) -> list[float]:
    """Return the recorded losses."""
    return [value for _, value in result.curves["train/loss"]]


def test_two_processes_compute_what_one_does(data: Path, tmp_path: Path) -> None:
    """The same losses, weights, averages and counts up to rounding; stopped and resumed, the same to the bit."""
    semalign.api.train(data, out=tmp_path / "one", device="cpu", settings=SHARED)
    two = run_script(tmp_path, data, "two", "train.devices=2")
    assert two.returncode == 0, two.stderr

    results = [read_result(tmp_path / name / "result.json") for name in ("one", "two")]
    assert len(losses(results[0])) == 3
    assert losses(results[1]) == pytest.approx(losses(results[0]), rel=1e-4)
    assert losses(results[1])[0] == pytest.approx(losses(results[0])[0], rel=1e-6)
    for name in (name for name in results[0].curves if name.endswith("grad_norm")):
        first = [result.curves[name][0][1] for result in results]
        assert first[1] == pytest.approx(first[0], rel=1e-3, abs=1e-7), name
    weights = [_weights(tmp_path / name) for name in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-2, atol=6e-4, msg=name)
    assert results[0].score is not None
    assert results[1].score is not None
    assert results[1].score.images == results[0].score.images
    assert int(results[1].score.confusion.sum()) == int(results[0].score.confusion.sum()) == 3 * 37 * 53
    assert results[1].facts["processes"] == 2

    stopped = run_script(tmp_path, data, "part", "train.devices=2", stop_at=3)
    assert stopped.returncode != 0
    assert (tmp_path / "part/state.safetensors").exists()
    resumed = run_script(tmp_path, data, "part", "train.devices=2")
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "part/weights.safetensors").read_bytes() == (tmp_path / "two/weights.safetensors").read_bytes()
    assert not (tmp_path / "part/state.safetensors").exists()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from semalign.train.run import load_run

    return load_run(folder).model.state_dict()


def test_an_error_before_the_launch_starts_nothing(data: Path, tmp_path: Path) -> None:
    """What cannot be shared is said by the first process alone, and leaves nothing behind."""
    with pytest.raises(ConfigError, match=r"a step of 5 images cannot be shared by 2 process\(es\) of 1 part"):
        semalign.api.train(
            data, out=tmp_path / "run", device="cpu", settings=[*TINY, "train.devices=2", "train.batch_size=5"]
        )
    assert not (tmp_path / "run").exists()


@pytest.fixture
def fixed_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batch norms normalise by their running statistics, so that an image does not depend on its neighbours."""

    def forward(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", forward)


@pytest.mark.usefixtures("fixed_norms")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_parts_add_up_to_the_whole(data: Path, smoothing: float) -> None:
    """Where norms allow, parts one after the other give the losses and weights of the whole batch, up to rounding."""
    from semalign.data.open import open_data

    changes: dict[str, Any] = {"train__batch_size": 6, "train__epochs": 3, "train__val_every": 0}
    changes["train__loss__label_smoothing"] = smoothing
    source = open_data(data)
    # Masks with ignored pixels: the parts do not weigh the same.
    inputs = prepare_inputs(source, tiny_options(**changes))
    for number, mask in enumerate(inputs.images.masks):
        mask = mask.clone()
        mask[: 4 * number] = 255
        inputs.images.masks[number] = mask

    found = [fit(inputs, tiny_options(**changes, train__accumulate=n), fabric=CPU) for n in (1, 2, 3)]

    whole = losses(found[0][1])
    for _, result in found[1:]:
        assert losses(result) == pytest.approx(whole, rel=1e-4)
        assert losses(result)[0] == pytest.approx(whole[0], rel=1e-6)
        norms = [result.curves[name] for name in sorted(result.curves) if name.endswith("grad_norm")]
        expected = [found[0][1].curves[name] for name in sorted(result.curves) if name.endswith("grad_norm")]
        first = [curve[0][1] for curve in norms]
        assert first == pytest.approx([curve[0][1] for curve in expected], rel=1e-3, abs=1e-7)


def test_batch_norms_see_one_part_at_a_time(data: Path) -> None:
    """With our own model parts give other numbers than the whole batch, as the option says."""
    from semalign.data.open import open_data

    changes: dict[str, Any] = {"train__batch_size": 6, "train__epochs": 1, "train__val_every": 0}
    inputs = prepare_inputs(open_data(data), tiny_options(**changes))

    whole, parts = (fit(inputs, tiny_options(**changes, train__accumulate=n), fabric=CPU)[1] for n in (1, 2))

    assert losses(parts)[0] != pytest.approx(losses(whole)[0], rel=1e-6)
    assert losses(parts)[0] == pytest.approx(losses(whole)[0], rel=0.1)


def test_a_share_of_a_batch_is_what_it_is_in_the_whole() -> None:
    """Views and colours of some images of a batch are those they have among all, depth too."""
    source = scenes()
    images = load_images(source, "train", depth=True, size=(32, 43))
    index = np.array([4, 0, 3, 1, 2])
    batches = TrainingBatches(images, 5, (32, 43), Augmentation(), images.depth_scale(), seed=3)

    whole = batches.views(index, 7)
    part = dataclasses.replace(batches, share=slice(2, 5)).views(index, 7)

    assert part.index.tolist() == [3, 1, 2]
    assert torch.equal(part.image, whole.image[2:5])
    assert torch.equal(part.mask, whole.mask[2:5])
    assert part.depth is not None
    assert whole.depth is not None
    assert torch.equal(part.depth, whole.depth[2:5])


def test_shares_by_hand() -> None:
    """Twelve images among three processes of two parts; what cannot be shared is refused."""
    assert [own_share(12, rank, 3, 2) for rank in range(3)] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    assert parts_of(4, 2) == [slice(0, 2), slice(2, 4)]
    with pytest.raises(ConfigError, match=r"a step of 7 images cannot be shared by 2 process\(es\) of 1 part"):
        own_share(7, 0, 2, 1)


def test_the_weight_that_a_mean_is_divided_by() -> None:
    """It is torch's own: a sum over parts divided by it is the mean over all, with weights and smoothing."""
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, 7)
    mask = torch.randint(0, 3, (2, 5, 7))
    mask[0, :2] = 255
    for weight in (None, torch.tensor([0.5, 2.0, 1.0])):
        expected = F.cross_entropy(logits, mask, weight=weight, ignore_index=255, label_smoothing=0.1)
        parts = [
            F.cross_entropy(
                logits[i : i + 1], mask[i : i + 1], weight, ignore_index=255, label_smoothing=0.1, reduction="sum"
            )
            for i in range(2)
        ]
        torch.testing.assert_close(sum(parts) / labelled_weight(mask, weight, 255), expected)
    assert float(labelled_weight(torch.full((1, 2, 2), 255), None, 255)) == 0


def test_batch_norm_by_shared_sums_is_torchs() -> None:
    """In one process: output, gradients and running statistics agree with torch, and torch's method comes back."""
    torch.manual_seed(1)
    norms = [nn.BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()]
    norms[1].load_state_dict(norms[0].state_dict())
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64) * 3 + 2
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    direction = torch.randn_like(x)

    outputs = [norms[0](inputs[0])]
    with share_statistics(norms[1]):
        outputs.append(norms[1](inputs[1]))
    for output in outputs:
        (output * direction).sum().backward()

    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    for name, tensor in norms[0].state_dict().items():
        torch.testing.assert_close(norms[1].state_dict()[name], tensor, msg=name)
    for one, other in zip(norms[0].parameters(), norms[1].parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad)
    assert "forward" not in norms[1].__dict__
    norms[1].eval()
    with share_statistics(norms[1]):
        torch.testing.assert_close(norms[1](x), norms[0].eval()(x))


def test_records_of_parts_by_hand() -> None:
    """A mean over the parts that know a number; what none knows is left out."""
    records = [{"a": {"scale": 1.0, "entropy": 0.5}}, {"a": {"scale": 3.0}}]

    assert mean_records(records, ["a", "b"], CPU) == {"a": {"scale": 2.0, "entropy": 0.5}}


def test_a_launcher_that_started_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun or SLURM has started must be what the options say."""
    for name, value in {"RANK": "0", "GROUP_RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")

    with pytest.raises(ConfigError, match=r"torchrun started 3 process\(es\), but train\.devices=2 and train\.nodes=1"):
        make_fabric("cpu", devices=2)
    with pytest.raises(ConfigError, match=r"with --device cuda:1|which this machine does not have"):
        make_fabric("cuda:1", devices=2)


def test_several_devices_are_not_for_a_study(data: Path) -> None:
    """A caller that computes on one device says so instead of training something else."""
    from semalign.data.open import open_data

    options = tiny_options(train__devices=2, train__batch_size=6)
    inputs = prepare_inputs(open_data(data), options)

    with pytest.raises(ConfigError, match=r"train\.devices=2 and train\.nodes=1 in a run that has 1 process"):
        fit(inputs, options, fabric=CPU)
    with pytest.raises(ConfigError, match=r"train\.compile=true with several devices or train\.checkpointing"):
        fit(inputs, tiny_options(train__compile=True, train__checkpointing=True), fabric=CPU)


def test_one_process_alone_shares_nothing() -> None:
    """Sums over processes are the tensors themselves."""
    tensor = torch.tensor([2.0])

    assert parallel.sum_over_processes(tensor) is tensor
    assert parallel.global_rank(CPU) == 0
    assert json.dumps(parallel.process_number()) == "0"
