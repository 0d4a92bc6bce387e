from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import semalign
from semalign import api
from semalign.align.temperature import DeadKnobWarning
from semalign.errors import AuditError, CheckpointError, ConfigError, DataError, OutputError, TextError
from semalign.inspection.counterfactuals import COUNTERFACTUALS
from semalign.inspection.options import first_batch
from semalign.results import read_result
from semalign.train.evaluation import text_for
from semalign.train.inputs import prepare_inputs
from semalign.train.run import load_run
from semalign.train.step import TrainingDiverged
from semalign.wording import say
from tests.small import CLASSES, TINY, make_data


def test_the_whole_path_on_scenes(captioned: Path) -> None:
    """Built-in scenes from training to evaluation: the folder's files, the stored score, the same score again."""
    result = read_result(captioned / "result.json")

    evaluation = api.evaluate(captioned, "scenes")

    assert sorted(entry.name for entry in captioned.iterdir()) == [
        "command.txt",
        "config.yaml",
        "result.json",
        "weights.safetensors",
    ]
    assert result.score is not None
    assert np.array_equal(evaluation.score.counts, result.score.counts)
    value = evaluation.to_dict()
    assert value["format"] == 1
    assert value["split"] == "val"
    assert value["n_images"] == 4
    assert value["miou"] == result.score.miou
    assert set(value["iou"]) | set(value["absent"]) == {
        "wall", "floor", "drum", "cake", "ball", "melon", "book", "slate"
    }  # fmt: skip
    assert all(0 <= number <= 1 for number in value["iou"].values())
    json.dumps(value, allow_nan=False)


def test_counterfactuals_of_scenes(captioned: Path) -> None:
    """Each change of the text has its score and difference, or says why it does not apply."""
    value = api.evaluate(captioned, "scenes", counterfactuals=True).to_dict()

    assert tuple(value["counterfactuals"]) == tuple(COUNTERFACTUALS)
    for item in value["counterfactuals"].values():
        if item["applies"]:
            assert item["difference"] == pytest.approx(item["miou"] - value["miou"])
        else:
            assert item["why"]


def test_scenes_as_training_drew_them_or_others(captioned: Path) -> None:
    """Settings of scenes are taken; anything else would change nothing and is refused."""
    few = api.evaluate(captioned, "scenes", settings=["data.n_val=2", "data.necessity=0"])

    assert len(few.score.images) == 2
    for setting in ("train.epochs=3", "model.size=base", "data.nval=3"):
        with pytest.raises(ConfigError, match=rf"--set {setting.split('=')[0]} has no effect on a trained run"):
            api.evaluate(captioned, "scenes", settings=[setting])


def test_settings_do_nothing_to_a_folder(trained: Path, data: Path) -> None:
    """A folder is what it is."""
    with pytest.raises(ConfigError, match=r"--set data\.necessity has no effect"):
        api.evaluate(trained, data, settings=["data.necessity=0"])


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"window": (32, 32)}, {"flip": True, "window": (33, 41)}])
def test_evaluate_a_folder(trained: Path, data: Path, options: dict[str, Any]) -> None:
    """Plain, mirrored, by windows: all pixels are counted; plain is the stored score."""
    evaluation = api.evaluate(load_run(trained), data, **options)

    assert evaluation.score.confusion.sum() == 3 * 37 * 53
    if not options:
        stored = read_result(trained / "result.json").score
        assert stored is not None
        assert np.array_equal(evaluation.score.counts, stored.counts)
    assert tuple(map(str, evaluation.notes)) == (
        "the text is the same for all images and carries no information about any one of them",
    )


def test_another_split(trained: Path, data: Path) -> None:
    """Any split of the data can be scored; an unknown one is named."""
    assert len(api.evaluate(trained, data, split="train").score.images) == 7
    with pytest.raises(DataError, match="has no split 'test', known: train, val"):
        api.evaluate(trained, data, split="test")


def test_other_classes(trained: Path, open_vocabulary: Path, tmp_path: Path) -> None:
    """A linear classifier is for its own classes; a text classifier is asked for those of the data."""
    root = make_data(tmp_path / "set")
    (root / "classes.txt").write_text("cloud\nstreet\noak\n")

    with pytest.raises(ConfigError, match=r"was trained for the classes sky, road, tree and the data have cloud"):
        api.evaluate(trained, root)
    evaluation = api.evaluate(open_vocabulary, root)
    assert evaluation.score.class_names == ("cloud", "street", "oak")
    assert evaluation.score.confusion.sum() == 3 * 37 * 53


def test_a_run_that_needs_texts(captioned: Path, data: Path) -> None:
    """A run guided by each image's texts is not scored on data without any: the classes are others, or texts lack."""
    with pytest.raises(ConfigError, match="was trained for the classes"):
        api.evaluate(captioned, data)


def test_chosen_weights_say_so(data: Path, tmp_path: Path) -> None:
    """Weights that were chosen on the split that is scored carry a note."""
    api.train(data, out=tmp_path / "run", settings=[*TINY, "train.select_split=val"])

    notes = api.evaluate(tmp_path / "run" / "best.safetensors", data).notes

    assert str(notes[0]) == "these weights were chosen by their score on 'val', which is therefore too high"
    assert len(api.evaluate(tmp_path / "run", data).notes) == 1


def test_train_refuses_before_it_writes(data: Path, tmp_path: Path) -> None:
    """Options, data, text and devices that do not fit leave no folder behind."""
    out = tmp_path / "run"
    for settings, device, error in (
        (["train.epocs=3"], "cpu", ConfigError),
        (["align.encoder.heads=5"], "cpu", ConfigError),
        (["data.text=images"], "cpu", TextError),
        (["data.val_split=x"], "cpu", DataError),
        ([], "tpu", ConfigError),
    ):
        with pytest.raises(error):
            api.train(data, out=out, settings=[*TINY, *settings], device=device)
    assert not out.exists()


def test_a_diverged_run_leaves_no_bare_claim(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a saved state there is nothing to go on from, and the same folder can be used at once."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(F, "cross_entropy", lambda logits, *_, **__: logits.sum() * float("nan"))
        with pytest.raises(TrainingDiverged):
            api.train(data, out=out, settings=TINY)
    assert not out.exists()


def test_resume_of_a_finished_run_loads_it(trained: Path, data: Path) -> None:
    """Nothing is trained again; without resume the folder is taken; damage is said."""
    before = {entry.name: entry.stat().st_mtime_ns for entry in trained.iterdir()}

    run, result = api.train(data, out=trained, settings=TINY, resume=True)

    assert run.class_names == CLASSES
    assert result.status == "finished"
    assert before == {entry.name: entry.stat().st_mtime_ns for entry in trained.iterdir()}
    with pytest.raises(OutputError, match="holds this run already: add --resume"):
        api.train(data, out=trained, settings=TINY)


def test_without_a_folder_nothing_is_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run can live in memory alone; options are given by dotted names too."""
    monkeypatch.chdir(tmp_path)

    overrides: dict[str, Any] = {"train.epochs": 1, "train": {"seed": 7}}

    run, result = api.train(data, settings=TINY, **overrides)

    # What is set stands above what is handed over.
    assert (result.facts["steps"], result.seed) == (4, 7)
    assert list(tmp_path.iterdir()) == []
    assert api.evaluate(run, data).score.miou == result.score.miou  # type: ignore[union-attr]


def test_build_and_load(trained: Path, tmp_path: Path) -> None:
    """A bare model takes images; a missing run is named; options are checked."""
    model = semalign.build(3, 5, **{"model.size": "nano", "align.decoder.levels": [3]})
    logits = model(torch.zeros(2, 3, 32, 43), torch.ones(7, 5), size=(37, 53))
    assert logits.shape == (2, 3, 37, 53)
    assert semalign.load(trained).class_names == CLASSES
    with pytest.raises(CheckpointError, match=re.escape(f"no checkpoint at {tmp_path / 'x'}")):
        semalign.load(tmp_path / "x")
    with pytest.raises(ConfigError, match=r"unknown option model\.siz"):
        semalign.build(3, 5, **{"model.siz": "nano"})


def test_the_text_of_a_run_is_its_own(trained: Path, data: Path) -> None:
    """A shared bank comes from the run itself, so that it is scored with the sentences it was trained with."""
    run = load_run(trained)
    text = text_for(run, api.open_source(data, run.options), "val")

    assert text.bank is run.bank


def test_training_is_audited_first(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the audit found is kept; an error that the options do not declare stops before anything is written."""
    import semalign.inspection.options as runs
    from semalign.audit.findings import Finding, make_report

    _, result = api.train(data, settings=TINY)
    assert result.facts["audit"]["findings"]
    assert all(finding["severity"] != "error" for finding in result.facts["audit"]["findings"])
    _, unaudited = api.train(data, settings=TINY, audit=False)
    assert "audit" not in unaudited.facts

    found = make_report([Finding("zero-gradient", ("decoder.x",), say("audit.ending.no-path"))])
    monkeypatch.setattr(runs, "audit_inputs", lambda *_, **__: found)
    with pytest.raises(
        AuditError, match=r"the audit of the model found zero-gradient at decoder\.x, so that .*--no-audit"
    ):
        api.train(data, out=tmp_path / "run", settings=TINY)
    assert not (tmp_path / "run").exists()
    assert AuditError.exit_code == 1
    api.train(data, out=tmp_path / "run", settings=TINY, audit=False)


def test_declared_faults_do_not_stop(data: Path) -> None:
    """The preset `seed` has dead temperatures on purpose: they are kept as declared, and it trains."""
    with pytest.warns(DeadKnobWarning):
        _, result = api.train(data, settings=[*TINY, "model.preset=seed"])

    first = result.facts["audit"]["findings"][0]
    assert (first["code"], first["severity"], first["declared"]) == ("init-outside-bound", "error", True)


def test_images_without_text_accuse_nobody(tmp_path: Path) -> None:
    """The audit before a training looks at images that have texts, wherever they stand among those that have none."""
    folder = make_data(tmp_path / "set")
    names = ("train/train-5", "train/train-6", "val/val-0")
    lines = [{"image": name, "texts": ["a red car", "the sky"]} for name in names]
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = [*TINY, "data.text=images", "train.epochs=1", "train.batch_size=3"]

    _, result = api.train(folder, settings=settings)

    assert result.status == "finished"
    options = api.resolve(folder, settings=settings)
    batch = first_batch(prepare_inputs(api.open_source(folder, options), options), options)
    assert batch["is_padding"].all(dim=1).tolist() == [True, False, False]
