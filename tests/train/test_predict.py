from __future__ import annotations

import io
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semalign import api
from semalign.data.transforms import normalize_image, resize_image
from semalign.errors import ConfigError, DataError, OutputError, TextError
from semalign.model.alignment import alignment_sites
from semalign.train.predict import Prediction, attention_sheets, predict_files, short_site
from semalign.train.run import TrainedRun, load_run
from tests.small import CLASSES, SIZE, TINY, scenes


@pytest.fixture
def image(data: Path) -> Path:
    """Return one validation image."""
    return data / "images" / "val" / "val-0.png"


def argmax_by_hand(run: TrainedRun, path: Path, text: torch.Tensor | None) -> np.ndarray[Any, Any]:
    """Return the class of each pixel from a forward that is written here."""
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    batch = normalize_image(resize_image(pixels, run.size)[None]).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = run.model(batch, text, None, size=SIZE, class_features=run.class_features)
    classes: np.ndarray[Any, Any] = logits[0].argmax(dim=0).numpy()
    return classes


def test_the_mask_is_the_argmax(trained: Path, image: Path, tmp_path: Path) -> None:
    """The PNG's indices are the model's classes at the image's size; shares sum to 1; the overlay is a picture."""
    run = load_run(trained)

    (written,) = api.predict(trained, [image], out=tmp_path / "out")

    assert run.bank is not None
    expected = argmax_by_hand(run, image, run.bank.features)
    with Image.open(written["mask"]) as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.array(mask), expected)
    assert written["image"] == str(image)
    assert written["mask"] == str(tmp_path / "out" / "val-0.mask.png")
    assert written["notes"] == []
    assert written["classes"] == {CLASSES[index]: (expected == index).mean() for index in np.unique(expected).tolist()}
    assert sum(written["classes"].values()) == pytest.approx(1.0)
    with Image.open(written["overlay"]) as overlay:
        assert overlay.mode == "RGB"
        assert overlay.height >= 300
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["val-0.mask.png", "val-0.overlay.png"]


def test_other_sentences_guide_instead(trained: Path, image: Path) -> None:
    """Given texts take the place of the class sentences: other features, other logits."""
    run = load_run(trained)

    plain, told = (next(predict_files(run, [image], texts=texts)) for texts in ((), ("a tree", "the sky at night")))

    assert plain.tokens == CLASSES
    assert told.tokens == ("a tree", "the sky at night")
    assert plain.class_names == told.class_names == CLASSES


def test_attention_maps(trained: Path, image: Path, tmp_path: Path) -> None:
    """Each site gives a map per token at its own resolution; over the tokens they sum to 1; the sheet is a PNG."""
    run = load_run(trained)

    prediction = next(predict_files(run, [image], attention=True))
    (written,) = api.predict(run, [image], out=tmp_path, attention=True)

    assert prediction.attention.keys() == alignment_sites(run.model).keys()
    shapes = {short_site(name): tuple(maps.shape) for name, maps in prediction.attention.items()}
    assert shapes["decoder 2"] == (3, 2, 3)
    assert shapes["decoder 3"] == (3, 1, 2)
    for maps in prediction.attention.values():
        torch.testing.assert_close(maps.sum(dim=0), torch.ones(maps.shape[1:]))
    assert not any(
        site.save_attention or site.last_attention is not None for site in alignment_sites(run.model).values()
    )
    with Image.open(written["attention"]) as sheet:
        assert sheet.width > 3 * 150
        assert sheet.height > len(prediction.attention) * 60


@pytest.mark.parametrize("token", ["it costs $5 or $x_{", "一棵树", "a" * 60, "<b>&"])
def test_a_sheet_shows_any_sentence(token: str) -> None:
    """Dollar signs are no formula, Chinese is drawn or named by its number, long sentences are cut."""
    maps = torch.rand(14, 3, 5, generator=torch.Generator().manual_seed(0))
    picture = np.zeros((700, 31, 3), dtype=np.uint8)
    tokens = (token, *(f"token {number}" for number in range(13)))
    prediction = Prediction(
        Path("x.png"), picture, picture[:, :, 0], ("a",), {"decoder.alignments.0": maps}, tokens, ()
    )

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sheets = list(attention_sheets(prediction))

    assert len(sheets) == 2
    sizes = []
    for sheet in sheets:
        with Image.open(io.BytesIO(sheet)) as picture_of_sheet:
            sizes.append(picture_of_sheet.size)
    assert max(max(size) for size in sizes) < 4000
    # Twelve columns, then the two that are left.
    assert sizes[1][0] < sizes[0][0] / 3


def test_names_of_sites() -> None:
    """People say side and numbers."""
    assert short_site("visual_encoder.stages.1.blocks.0.alignment") == "encoder 1.0"
    assert short_site("decoder.alignments.2") == "decoder 2"


def test_classes_that_were_not_trained(open_vocabulary: Path, image: Path, tmp_path: Path) -> None:
    """A text classifier answers for the names that are asked for; its own names give its own mask."""
    run = load_run(open_vocabulary)

    own = next(predict_files(run, [image], classes=CLASSES))
    plain = next(predict_files(run, [image]))
    (asked,) = api.predict(run, [image], out=tmp_path, classes=["cloud", "street"])

    assert np.array_equal(own.mask, plain.mask)
    assert np.array_equal(plain.mask, argmax_by_hand(run, image, None))
    assert set(asked["classes"]) <= {"cloud", "street"}
    # The encoder `table` draws vectors: what they answer is told to be chance, and of the run's own names it is not.
    assert own.notes == plain.notes == ()
    assert asked["notes"] == [
        "the vectors of 'cloud', 'street' have no meaning, because text.encoder is table and the run was not trained "
        "with these texts: the answers for them are chance; train with text.encoder=minilm or another language model"
    ]


def test_classes_are_called_as_the_run_calls_them(data: Path, image: Path, tmp_path: Path) -> None:
    """What text.names says of a class holds for --classes too; names it does not speak of are taken as they are."""
    run, _ = api.train(data, settings=[*TINY, "data.text=none", "model.classifier=text", "text.names={sky: air|cloud}"])

    given = next(predict_files(run, [image], classes=["sky", "street|road"]))
    by_hand = next(predict_files(run, [image], classes=["air|cloud", "road|street"]))

    assert np.array_equal(given.mask, by_hand.mask)
    assert given.class_names == ("sky", "street|road")
    (note,) = given.notes
    assert str(note).startswith("the vector of 'street|road' has no meaning, because text.encoder is table")


def test_a_run_guided_by_tokens(data: Path, image: Path, tmp_path: Path) -> None:
    """Trained, saved, loaded and asked with sentences: what guides are words; pixels are compared with sentences."""
    settings = [*TINY, "text.level=token", "model.classifier=text"]
    trained, _ = api.train(data, out=tmp_path / "run", settings=settings)
    run = load_run(tmp_path / "run")

    own = next(predict_files(run, [image], attention=True))
    told = next(predict_files(run, [image], texts=["a red bus"], attention=True))
    scores = api.evaluate(run, data, counterfactuals=True).to_dict()["counterfactuals"]

    assert trained.bank is not None
    assert run.bank is not None
    assert run.bank.owners == trained.bank.owners
    assert run.class_bank is not None
    assert run.class_bank.sentences == CLASSES
    assert own.tokens[0] == "a [1] a photo of a sky."
    assert told.tokens == ("a [1] a red bus", "red [2] a red bus", "bus [3] a red bus")
    assert {len(maps) for maps in told.attention.values()} == {3}
    # Each mask's class names are words of the bank too.
    assert scores["masks"]["applies"]
    assert scores["shuffled"]["why"] == "all images share one text"


def test_flip_and_window(trained: Path, image: Path) -> None:
    """Both give a mask of the image's size."""
    run = load_run(trained)

    for flip, window in ((True, None), (False, (32, 32)), (True, (33, 41))):
        assert next(predict_files(run, [image], flip=flip, window=window)).mask.shape == SIZE


def test_a_run_with_texts_of_images(captioned: Path, image: Path) -> None:
    """Without a text it predicts without and says so; given one, it is guided."""
    run = load_run(captioned)

    silent = next(predict_files(run, [image]))
    told = next(predict_files(run, [image], texts=["a photo of a drum", "a photo of a ball"], attention=True))

    assert tuple(map(str, silent.notes)) == (
        "the run was trained with texts of each image and got none here: predicted without text, give --text",
    )
    (note,) = told.notes
    assert str(note).startswith("the vector of 'a photo of a drum' has no meaning, because text.encoder is table")
    assert told.attention
    with pytest.raises(TextError, match="--attention needs a text"):
        next(predict_files(run, [image], attention=True))


def test_depth(tmp_path: Path) -> None:
    """A run with depth reads NAME.png of the folder, of the image's size, and is refused without."""
    source = scenes()
    run, _ = api.train(
        "scenes", settings=[*TINY, "data.depth=true", "data.n_train=3", "data.n_val=1", "train.epochs=1"]
    )
    sample = source.load("val", source.names("val")[0])
    assert sample.depth is not None
    (tmp_path / "depth").mkdir()
    Image.fromarray(sample.image).save(tmp_path / "a.png")
    stored = (1000 * sample.depth).astype(np.uint16)
    Image.fromarray(stored).save(tmp_path / "depth" / "a.png")
    paths = [tmp_path / "a.png"]

    assert next(predict_files(run, paths, depth_folder=tmp_path / "depth")).mask.shape == (32, 43)
    with pytest.raises(ConfigError, match="trained with depth, expected --depth FOLDER"):
        next(predict_files(run, paths))
    other = Path(shutil.copy(tmp_path / "a.png", tmp_path / "b.png"))
    with pytest.raises(DataError, match=r"depth .*b\.png cannot be read"):
        next(predict_files(run, [other], depth_folder=tmp_path / "depth"))
    Image.fromarray(stored[:-3]).save(tmp_path / "depth" / "a.png")
    with pytest.raises(DataError, match=r"has size \(29, 43\), expected the image's \(32, 43\)"):
        next(predict_files(run, paths, depth_folder=tmp_path / "depth"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": ["a"]}, ConfigError, r"--classes needs a run with model\.classifier=text, got one with a linear"),
        ({"depth": "x"}, ConfigError, "trained without depth, leave it out"),
        ({"attention": True, "flip": True}, ConfigError, "--attention shows one forward"),
        ({"attention": True, "window": (32, 32)}, ConfigError, "--attention shows one forward"),
        ({"text": [""]}, TextError, "empty|blank"),
        ({"device": "tpu"}, ConfigError, "--device got 'tpu'"),
    ],
)
def test_options_that_do_not_fit(
    trained: Path, image: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Each is refused before anything is written."""
    with pytest.raises(error, match=message):
        api.predict(trained, [image], out=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_text_free_run_takes_no_text(open_vocabulary: Path, image: Path, tmp_path: Path) -> None:
    """Neither sentences nor attention; and a mask holds at most 255 classes."""
    many = [f"class {number}" for number in range(256)]
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"text": ["a"]}, TextError, "--text is given to a run that was trained without text"),
        ({"attention": True}, ConfigError, "--attention needs a run with text"),
        ({"classes": many}, ConfigError, "got 256 names, expected at most 255"),
        ({"classes": ["a", "a"]}, TextError, "'a'"),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message):
            api.predict(open_vocabulary, [image], out=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_none(trained: Path, image: Path, tmp_path: Path) -> None:
    """A missing file is found before the first is written; a corrupt one is named; names must differ; none is none."""
    corrupt, twin = tmp_path / "corrupt.png", tmp_path / "twin"
    corrupt.write_bytes(b"no picture")
    twin.mkdir()
    shutil.copy(image, twin)

    for paths, error, message in (
        ([image, tmp_path / "none.png"], DataError, r"no image file at .*none\.png"),
        ([image, tmp_path], DataError, "no image file at"),
        ([corrupt], DataError, r"corrupt\.png is corrupt or truncated"),
        ([image, twin / image.name], OutputError, r"the images .* and .* have one name"),
        ([image, image], OutputError, "have one name"),
        ([], DataError, "got no image to predict"),
    ):
        with pytest.raises(error, match=message):
            api.predict(trained, paths, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_single_sentence_is_warned_of(trained: Path, image: Path) -> None:
    """One token makes every attention weight 1."""
    with pytest.warns(UserWarning, match="one token"):
        next(predict_files(load_run(trained), [image], texts=["a tree"]))
