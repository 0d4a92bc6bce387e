from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from semalign.align.temperature import DeadKnobWarning
from semalign.config import Options
from semalign.data.loading import TrainingBatches
from semalign.data.open import open_data
from semalign.data.sample import DataSource
from semalign.errors import CheckpointError, ConfigError, DataError, TextError
from semalign.execution import Events
from semalign.results import RunResult
from semalign.tensors_file import read_tensors, write_tensors
from semalign.train import average, objective, outcome, setup, state, step
from semalign.train import inputs as reading
from semalign.train.evaluate import Predictor, score_images
from semalign.train.inputs import Inputs, check_source, prepare_inputs, prepare_text, train_score_names
from semalign.train.loop import fit
from semalign.train.optimizer import make_optimizer
from semalign.train.parallel import make_fabric
from semalign.train.precision import compiled
from semalign.train.run import TrainedRun, load_run
from semalign.train.step import TrainingDiverged
from tests.small import edit, make_data, scenes, tiny_options

CPU = make_fabric("cpu")


@pytest.fixture(scope="module")
def source(data: Path) -> DataSource:
    """Return the small folder, opened."""
    return open_data(data)


@pytest.fixture(scope="module")
def inputs(source: DataSource) -> Inputs:
    """Return what runs guided by the class sentences read."""
    return prepare_inputs(source, tiny_options())


class Stop(Exception):  # noqa: N818 (a test's own way out)
    """Ends a run from outside, as a power cut does."""


def train(inputs: Inputs, options: Options, out: Path | None = None, stop_at: int = 0) -> tuple[TrainedRun, RunResult]:
    """Train on the processor; stop by force after a step's update and before its save."""

    def stepped(step: int, steps: int, loss: float) -> None:
        if step == stop_at:
            raise Stop

    if out is not None:
        out.mkdir(exist_ok=True)
    return fit(inputs, options, out=out, fabric=CPU, events=Events(stepped=stepped))


@contextlib.contextmanager
def saving_each_step() -> Iterator[None]:
    """Save the state after every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "SAVE_EVERY_SECONDS", -1.0)
        yield


def assert_same(one: tuple[TrainedRun, RunResult], other: tuple[TrainedRun, RunResult]) -> None:
    """Weights, curves and counts are equal to the bit."""
    weights, weights_other = one[0].model.state_dict(), other[0].model.state_dict()
    assert weights.keys() == weights_other.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, weights_other[name]), name
    assert one[1].curves == other[1].curves
    assert one[1].score is not None
    assert other[1].score is not None
    assert np.array_equal(one[1].score.counts, other[1].score.counts)
    assert one[1].facts == other[1].facts


def test_same_seed_same_bits(inputs: Inputs, tmp_path: Path) -> None:
    """Two trainings give byte-identical files and equal results, whatever random numbers are drawn between them."""
    options = tiny_options()
    first = train(inputs, options, tmp_path / "a")
    torch.rand(7)
    state = torch.random.get_rng_state()
    second = train(inputs, options, tmp_path / "b")

    assert_same(first, second)
    assert (tmp_path / "a/weights.safetensors").read_bytes() == (tmp_path / "b/weights.safetensors").read_bytes()
    assert torch.equal(state, torch.random.get_rng_state())


def test_another_seed_another_run(inputs: Inputs) -> None:
    """The seed changes initial values, order and views, hence the first loss."""
    losses = [train(inputs, tiny_options(train__seed=seed, train__epochs=1))[1].curves["train/loss"] for seed in (0, 1)]

    assert losses[0][0][0] == losses[1][0][0] == 0
    assert losses[0][0][1] != losses[1][0][1]


@pytest.mark.parametrize("stop_at", [2, 3, 4])
def test_resume_is_exact(inputs: Inputs, tmp_path: Path, stop_at: int) -> None:
    """A run that was stopped at any step, looked at or not, goes on to the very bytes of an undisturbed one."""
    options = tiny_options(train__select_split="val", train__clip_norm=1.0)
    whole, part = tmp_path / "whole", tmp_path / "part"
    undisturbed = train(inputs, options, whole)
    with saving_each_step(), pytest.raises(Stop):
        train(inputs, options, part, stop_at=stop_at)
    assert read_tensors(part / "state.safetensors")[1]["progress"]["step"] == stop_at - 1

    resumed = train(inputs, options, part)

    assert_same(undisturbed, resumed)
    assert (whole / "weights.safetensors").read_bytes() == (part / "weights.safetensors").read_bytes()
    assert (whole / "best.safetensors").read_bytes() == (part / "best.safetensors").read_bytes()


def test_a_run_stopped_while_it_is_scored_is_not_trained_again(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the last step is kept, so that a broken validation image costs no training."""
    options = tiny_options(train__val_every=0)
    undisturbed = train(inputs, options)
    with saving_each_step(), monkeypatch.context() as patch:
        patch.setattr(outcome, "_score", lambda *_: (_ for _ in ()).throw(DataError("broken")))
        with pytest.raises(DataError, match="broken"):
            train(inputs, options, tmp_path)
    steps: list[int] = []

    resumed = fit(inputs, options, out=tmp_path, fabric=CPU, events=Events(stepped=lambda step, *_: steps.append(step)))

    assert steps == []
    assert_same(undisturbed, resumed)


def test_the_state_of_another_run_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    """Options or data that differ, damage and a foreign file are told apart, and nothing is trained."""
    with saving_each_step(), pytest.raises(Stop):
        train(inputs, tiny_options(), tmp_path, stop_at=2)
    state = tmp_path / "state.safetensors"
    tensors, facts = read_tensors(state)

    with pytest.raises(CheckpointError, match="belongs to other options or data"):
        train(inputs, tiny_options(train__lr=0.5), tmp_path)
    for damaged_tensors, damaged_facts in (
        ({name: t for name, t in tensors.items() if not name.startswith("average.")}, facts),
        ({**tensors, "model.decoder.classifier.project.weight": torch.ones(2)}, facts),
        (tensors, {**facts, "progress": {"step": 1}}),
        (tensors, {**facts, "progress": {**facts["progress"], "curves": None}}),
    ):
        write_tensors(state, damaged_tensors, damaged_facts)
        with pytest.raises(CheckpointError, match=r"does not fit the run \(.*\), remove it to start over"):
            train(inputs, tiny_options(), tmp_path)
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        train(inputs, tiny_options(), tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()


def test_arms_of_a_block_see_the_same_views(source: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one seed, arms with other parameters get the same images, views and initial values where they share them."""
    seen: list[list[Any]] = []

    views = TrainingBatches.views

    def spied(*args: Any, **options: Any) -> Any:
        batch = views(*args, **options)
        seen[-1].append(batch)
        return batch

    monkeypatch.setattr(TrainingBatches, "views", spied)
    starts = []
    for changes in ({}, {"data__text": "none"}, {"align__encoder__temperature__learnable": True}):
        seen.append([])
        options = tiny_options(train__val_every=0, train__epochs=1, **changes)
        built: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                "semalign.train.setup.make_optimizer", lambda model, groups, built=built: _keep(model, groups, built)
            )
            fit(prepare_inputs(source, options), options, fabric=CPU)
        starts.append(built[0])

    for other in seen[1:]:
        for batch, twin in zip(seen[0], other, strict=True):
            assert torch.equal(batch.index, twin.index)
            assert torch.equal(batch.image, twin.image)
            assert torch.equal(batch.mask, twin.mask)
    for other_start in starts[1:]:
        shared = starts[0].keys() & other_start.keys()
        assert len(shared) > 50
        assert all(torch.equal(starts[0][name], other_start[name]) for name in shared)


def _keep(model: Any, groups: Any, built: list[Any]) -> Any:
    built.append({name: tensor.detach().clone() for name, tensor in model.state_dict().items()})
    return make_optimizer(model, groups)


def test_the_averaged_weights_are_what_is_scored(inputs: Inputs, tmp_path: Path) -> None:
    """The file's weights give the stored counts; they are the running average, and without one the last weights."""
    averaged, result = train(inputs, tiny_options(), tmp_path)
    last, last_result = train(inputs, tiny_options(train__average=0.0))

    assert result.facts["scored_weights"] == "average"
    assert last_result.facts["scored_weights"] == "last"
    assert any(
        not torch.equal(tensor, last.model.state_dict()[name]) for name, tensor in averaged.model.state_dict().items()
    )
    loaded = load_run(tmp_path)
    predictor = Predictor(loaded.model, loaded.size)
    score = score_images(predictor, inputs.scored["val"], inputs.text, depth_scale=None)
    assert result.score is not None
    assert np.array_equal(score.counts, result.score.counts)


def test_the_cache_of_decoded_images_changes_no_bit(
    source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that scores from packs, and one where none can be kept, are equal to the bit."""
    options = tiny_options()
    mapped = prepare_inputs(source, options)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SEMALIGN_CACHE", str(tmp_path / "file"))

    decoded = prepare_inputs(source, options)

    assert set(mapped.scored) == set(decoded.scored) == {"train", "val"}
    assert all(images.ready for images in mapped.scored.values())
    assert not any(images.ready for images in decoded.scored.values())
    assert_same(train(mapped, options), train(decoded, options))


def test_nothing_is_decoded_twice(source: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its inputs prepared a run decodes no image, neither for training nor for any of its scores."""
    options = tiny_options(train__select_split="val")
    ready = prepare_inputs(source, options)

    def load(split: str, name: str) -> Any:
        raise AssertionError(f"{split}/{name} was decoded")

    monkeypatch.setattr(source, "load", load)

    train(prepare_inputs(source, options), options)
    train(ready, options)


def test_the_scored_part_of_the_training_split(source: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same for all runs, in the split's order, and whole where the split is also the scored one."""
    names = tuple(f"{number:03d}" for number in range(211))
    part = train_score_names(names)

    assert len(part) == 100
    assert part == train_score_names(names) == tuple(sorted(part))
    assert train_score_names(names[:7]) == names[:7]
    monkeypatch.setattr(reading, "TRAIN_SCORE_IMAGES", 2)
    assert len(prepare_inputs(source, tiny_options()).scored["train"].names) == 2
    both = tiny_options(data__val_split="train")
    assert len(prepare_inputs(source, both).scored["train"].names) == 7


def test_bf16(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in bf16 change the losses by rounding alone; the result says so, and weights stay float32."""
    monkeypatch.setattr("semalign.train.precision.has_native_bf16", lambda device: True)
    plain = train(inputs, tiny_options(train__epochs=1))

    run, result = train(inputs, tiny_options(train__epochs=1, train__precision="bf16"))

    losses = [[value for _, value in outcome.curves["train/loss"]] for outcome in (plain[1], result)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert (plain[1].facts["precision"], result.facts["precision"]) == ("float32", "bf16")
    assert {tensor.dtype for tensor in run.model.parameters()} == {torch.float32}


def test_fp16(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in fp16 with scaled gradients change the losses by rounding alone; a stopped run keeps its scale."""
    monkeypatch.setattr("semalign.train.precision.has_fp16", lambda device: True)
    plain = train(inputs, tiny_options())
    options = tiny_options(train__precision="fp16")

    whole = train(inputs, options, tmp_path / "whole")
    with saving_each_step(), pytest.raises(Stop):
        train(inputs, options, tmp_path / "part", stop_at=3)
    scaler = read_tensors(tmp_path / "part/state.safetensors")[1]["progress"]["scaler"]
    resumed = train(inputs, options, tmp_path / "part")

    losses = [[value for _, value in outcome.curves["train/loss"]] for outcome in (plain[1], whole[1])]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert whole[1].facts["precision"] == "fp16"
    assert scaler["scale"] <= 65536.0
    assert_same(whole, resumed)


def test_fp16_needs_a_gpu(inputs: Inputs) -> None:
    """On a CPU it is refused in one sentence that says what to set."""
    with pytest.raises(ConfigError, match=r"train\.precision=fp16 on cpu, expected a CUDA device: set train\.prec"):
        train(inputs, tiny_options(train__precision="fp16"))


def test_a_compiled_run(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled model carries out the steps that record nothing, and trains the weights that are scored."""
    steps: list[int] = []
    real = compiled

    def spied(model: Any, device: Any) -> Any:
        with monkeypatch.context() as patch:
            # Dynamo needs no compiler with this backend.
            own = torch.compile
            patch.setattr(torch, "compile", lambda target: own(target, backend="eager"))
            made = real(model, device)
        made.register_forward_hook(lambda *_: steps.append(1))
        return made

    monkeypatch.setattr(setup, "compiled", spied)
    monkeypatch.setattr(setup, "RECORDS", 2)
    plain = train(inputs, tiny_options())

    run, result = train(inputs, tiny_options(train__compile=True))

    assert len(steps) == 1
    for name, tensor in run.model.state_dict().items():
        torch.testing.assert_close(tensor, plain[0].model.state_dict()[name], rtol=1e-3, atol=1e-4)
    assert result.facts["config"]["train"]["compile"] is True


def test_the_average_by_hand() -> None:
    """The first step keeps (1 + 1)/(10 + 1) of the start, later at most the decay; counters are copied."""
    model = torch.nn.BatchNorm1d(1)
    mean = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.weight.fill_(12.0)
        model.state_dict()["num_batches_tracked"].fill_(5)

    average.update_average(mean, model.state_dict(), 0.995, 1)
    assert float(mean["weight"]) == pytest.approx(2 / 11 * 1 + 9 / 11 * 12)
    assert int(mean["num_batches_tracked"]) == 5

    mean["weight"].fill_(1.0)
    average.update_average(mean, model.state_dict(), 0.5, 10_000)
    assert float(mean["weight"]) == pytest.approx(0.5 * 1 + 0.5 * 12)
    average.update_average(mean, model.state_dict(), 0.0, 1)
    assert float(mean["weight"]) == 12.0


def test_what_a_result_holds(inputs: Inputs) -> None:
    """Counts, curves of loss and of every site's scale, gate, strength and entropy, facts, timings."""
    _, result = train(inputs, tiny_options())

    assert result.status == "finished"
    assert result.score is not None
    assert result.score.counts.shape == (3, 3, 3)
    assert int(result.score.confusion.sum()) == 3 * 37 * 53
    assert [step for step, _ in result.curves["train/loss"]] == [0, 1, 2, 3]
    assert [step for step, _ in result.curves["val/miou"]] == [2, 4]
    assert result.curves["val/miou"][-1][1] == result.score.miou
    sites = {name.rpartition("/")[0] for name in result.curves} - {"train", "val"}
    assert any(name.startswith("visual_encoder") for name in sites)
    assert any(name.startswith("decoder") for name in sites)
    for site in sites:
        for name in ("scale", "gate", "strength", "entropy", "grad_norm"):
            values = [value for _, value in result.curves[f"{site}/{name}"]]
            assert len(values) == 4
            assert all(math.isfinite(value) and value >= 0 for value in values)
        assert all(value <= 1 + 1e-6 for _, value in result.curves[f"{site}/entropy"])
    facts = result.facts
    assert facts["steps"] == 4
    assert facts["text"] == {
        "kind": "classes",
        "meaning": "one sentence per class, the same for every image",
        "encoder": facts["text"]["encoder"],
        "level": "sentence",
        "tokens": 3,
        "sentences": 3,
        "shared": True,
        "agreement": None,
        "leaking": False,
    }
    assert facts["train_score"]["images"] == 7
    assert [row["role"] for row in facts["groups"]] == ["weights", "norms and biases", "temperatures", "gates"]
    assert sum(row["numbers"] for row in facts["groups"]) == facts["parameters"]
    assert any("carries no information about any one" in note for note in result.notes)
    assert result.timings.keys() == {"train", "score"}


def test_every_parameter_learns(source: DataSource) -> None:
    """In `recommended`, a few steps reach every parameter: each has a gradient and moves."""
    options = tiny_options(train__epochs=3, train__val_every=0, train__average=0.0)
    inputs = prepare_inputs(source, options)
    started: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semalign.train.setup.make_optimizer", lambda model, groups: _keep(model, groups, started))
        run, _ = fit(inputs, options, fabric=CPU)

    still = [name for name, p in run.model.named_parameters() if torch.equal(p.detach(), started[0][name])]
    assert still == []


def test_dead_temperatures_are_noted(inputs: Inputs) -> None:
    """The original's dead temperature trains as it is, with a warning and a note of each place."""
    with pytest.warns(UserWarning, match="never learns"):
        _, result = train(inputs, tiny_options(model__preset="seed", train__epochs=1))

    dead = [note for note in result.notes if "learnable in name only" in note]
    assert len(dead) == 2
    assert all("decoder" in note for note in dead)


def test_selection_is_said(inputs: Inputs, tmp_path: Path) -> None:
    """The best weights are kept apart and every output says on which split they were chosen."""
    _, result = train(inputs, tiny_options(train__select_split="val"), tmp_path)

    assert any("chosen by its score on the split 'val' that is also scored" in note for note in result.notes)
    best = load_run(tmp_path / "best.safetensors")
    assert best.facts["selected_on"] == "val"
    assert best.facts["selected_miou"] == result.facts["best"]["miou"]
    assert best.facts["selected_miou"] == max(value for _, value in result.curves["select/miou"])


def test_a_loss_that_is_no_number_ends_the_run(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names step, epoch, images and what to change."""
    monkeypatch.setattr(F, "cross_entropy", lambda logits, *_, **__: logits.sum() * math.nan)

    with pytest.raises(TrainingDiverged, match=r"the loss is nan at step 0 of 4 \(epoch 0, images train-.*lower train"):
        train(inputs, tiny_options())


def test_weights_that_are_no_numbers_end_the_run(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last step that breaks the weights is noticed, though no loss follows it."""
    real = average.update_average

    def broken(mean: Any, state: Any, decay: float, done: int) -> None:
        real(mean, state, decay, done)
        if done == 4:
            mean["decoder.classifier.project.bias"].fill_(math.inf)

    monkeypatch.setattr(step, "update_average", broken)
    with pytest.raises(
        TrainingDiverged, match=r"the weights decoder\.classifier\.project\.bias are not finite after step 4"
    ):
        train(inputs, tiny_options(train__val_every=0))


def test_a_gradient_that_is_no_number_ends_the_run(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves hold numbers alone; the message names the curve."""
    monkeypatch.setattr(step, "gradient_norm", lambda parameters: math.inf)

    with pytest.raises(TrainingDiverged, match=r"grad_norm is inf at step 0, expected a finite number"):
        train(inputs, tiny_options())


def test_views_without_a_label_teach_nothing(source: DataSource, inputs: Inputs) -> None:
    """A batch whose pixels are all ignored is no reason for NaN: its loss is 0 and the run goes on."""
    images = dataclasses.replace(inputs.images, masks=[mask.clone() for mask in inputs.images.masks])
    for mask in images.masks[:6]:
        mask.fill_(255)
    some = dataclasses.replace(inputs, images=images)

    _, result = train(some, tiny_options(train__batch_size=1, train__val_every=0))

    losses = [value for _, value in result.curves["train/loss"]]
    assert losses.count(0.0) >= 12
    assert max(losses) > 0


def test_class_weights_by_hand(inputs: Inputs) -> None:
    """Weights are frequency^-power with mean 1 over pixels; power 0 needs none; a class without pixels weighs 0."""
    images = dataclasses.replace(
        inputs.images, masks=[torch.tensor([[0, 0, 0], [1, 255, 255]], dtype=torch.uint8)], names=("a",)
    )

    weights = objective.class_weights(images, 3, 0.5)

    assert objective.class_weights(images, 3, 0.0) is None
    assert weights is not None
    raw = [0.75**-0.5, 0.25**-0.5]
    mean = raw[0] * 0.75 + raw[1] * 0.25
    assert weights.tolist() == pytest.approx([raw[0] / mean, raw[1] / mean, 0.0])


def test_a_nudge_is_another_draw_of_the_same_recipe(inputs: Inputs) -> None:
    """The pilot's second run begins a millionth away: the first loss hardly differs, the weights do."""
    plain, nudged = (
        train(inputs, tiny_options(train__nudge=size, train__epochs=1, train__val_every=0)) for size in (0.0, 1e-6)
    )

    first, second = plain[1].curves["train/loss"][0][1], nudged[1].curves["train/loss"][0][1]
    assert first == pytest.approx(second, rel=1e-3)
    states = plain[0].model.state_dict(), nudged[0].model.state_dict()
    assert any(not torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_texts_of_images_and_depth_are_trained_with(tmp_path: Path) -> None:
    """Scenes with captions and depth train as they are, and the facts say what the text is."""
    source = scenes()
    options = tiny_options("scenes", data__depth=True, train__epochs=1)

    run, result = train(prepare_inputs(source, options), options, tmp_path)

    assert result.facts["text"]["kind"] == "images"
    assert result.facts["text"]["shared"] is False
    assert run.depth_scale is not None
    assert load_run(tmp_path).depth_scale == run.depth_scale
    assert not any("no information" in note for note in result.notes)


def test_texts_from_masks_are_marked(source: DataSource) -> None:
    """Names read off the masks leak the answer, and the result says so."""
    options = tiny_options(data__text="masks", train__epochs=1, train__val_every=0)

    _, result = train(prepare_inputs(source, options), options)

    assert result.facts["text"]["leaking"] is True
    assert "the text is made from the masks that are scored (leaking)" in result.notes


def test_a_batch_of_one_small_image(source: DataSource) -> None:
    """One position at the coarsest stage cannot be normalised, which is said early; two positions can."""
    small, larger = (
        tiny_options(data__size=[32, width], train__batch_size=1, train__epochs=1, train__val_every=0)
        for width in (32, 33)
    )

    with pytest.raises(ConfigError, match=r"a batch of 1 image at data\.size=\[32, 32\] has one position"):
        check_source(source, small)
    _, result = train(prepare_inputs(source, larger), larger)
    assert result.facts["steps"] == 7


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"data__val_split": "vall"}, DataError, "has no split 'vall', did you mean 'val'"),
        ({"data__train_split": "x"}, DataError, "has no split 'x'"),
        ({"train__select_split": "test"}, DataError, "has no split 'test'"),
        ({"data__depth": True}, DataError, "data.depth=true, but the folder data have no depth"),
        ({"data__text": "images"}, TextError, "data.text=images, but the folder data have no texts"),
        ({"text__encoder": "clipp"}, TextError, "the text encoder 'clipp' is neither"),
        ({"text__names": {"ski": "x"}}, TextError, "text.names renames 'ski', which is not a class"),
    ],
)
def test_what_data_lack_is_known_early(
    source: DataSource, overrides: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A missing split, depth, text or encoder is found before an image is decoded."""
    options = tiny_options(**overrides)

    def look() -> None:
        check_source(source, options)
        prepare_text(source, options)

    with pytest.raises(error, match=message):
        look()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_a_label_is_known_early(tmp_path: Path, split: str) -> None:
    """Nothing can be learnt from or scored on masks that hold only 255."""
    root = make_data(tmp_path / "set")
    for path in (root / "masks" / split).iterdir():
        edit(path, fill=255)

    with pytest.raises(DataError, match=rf"the masks of the split '{split}' hold only 255 \(ignored\)"):
        check_source(open_data(root), tiny_options())


@pytest.mark.parametrize("device", ["foo", "", "cuda:x", "cuda:-1", "mps:a", "cpu:one"])
def test_unknown_devices(device: str) -> None:
    """The message shows what a device can be."""
    with pytest.raises(ConfigError, match=rf"--device got '{device}', expected auto, cpu, cuda, cuda:N or mps"):
        make_fabric(device)


def test_devices_that_are_not_there() -> None:
    """A known device that this machine lacks is refused; automatic takes what there is."""
    with pytest.raises(ConfigError, match="'cuda:99', which this machine does not have, use cpu or auto"):
        make_fabric("cuda:99")
    assert make_fabric("auto").device.type in ("cpu", "cuda")


def test_a_temperature_that_dies_costs_no_run(inputs: Inputs, tmp_path: Path) -> None:
    """One that leaves its clamp while it is trained is warned of and noted; the run ends, is loaded and resumed."""
    temperature = {"learnable": True, "init": 2.3, "bound": "clamp", "bounds": (2.2999, 2.3001)}
    options = tiny_options(
        align__decoder__temperature=temperature, train__scalar_lr=0.05, train__val_every=1, train__select_split="val"
    )

    with pytest.warns(DeadKnobWarning, match="lies outside its clamp bounds"):
        whole = train(inputs, options, tmp_path / "whole")
    with pytest.warns(DeadKnobWarning, match="lies outside its clamp bounds"):
        loaded = load_run(tmp_path / "whole")
    with saving_each_step(), pytest.raises(Stop), pytest.warns(DeadKnobWarning):
        train(inputs, options, tmp_path / "part", stop_at=3)
    with pytest.warns(DeadKnobWarning, match="lies outside its clamp bounds"):
        resumed = train(inputs, options, tmp_path / "part")

    assert_same(whole, resumed)
    died = [note for note in whole[1].notes if "left its clamp during training" in note]
    assert died
    assert all("from there on its gradient is exactly 0" in note for note in died)
    for name, tensor in whole[0].model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    # What a user sets at the start is refused as before.
    with pytest.raises(ConfigError, match="lies outside its clamp bounds"):
        train(inputs, tiny_options(align__decoder__temperature={**temperature, "init": 2.4}))
