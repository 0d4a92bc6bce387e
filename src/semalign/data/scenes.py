"""Built-in rendered scenes: RGB, depth, masks and captions without a file, from (seed, split, index) alone.

A room of wall and floor in perspective holds two to six objects.  Object classes come in pairs that share their shape:
drum/cake (cylinders), ball/melon (spheres), book/slate (leaning slabs).  Each member has an appearance of its own, and
each pair has a third one, shared by both members.  The knob ``necessity`` is the probability that all objects of a
pair in a scene wear the shared appearance.  Then they are all the same member, a fair coin decides which, and the
coin touches the mask and the caption but not one byte of image or depth: only the text tells drum from cake.

This module does not depend on files, batches, models and torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semalign.data.sample import DepthArray, ImageArray, MaskArray, Sample, unknown_name, unknown_split
from semalign.errors import ConfigError
from semalign.presets import SCENES
from semalign.seeds import numpy_generator

__all__ = ["CLASS_NAMES", "PAIRS", "TEMPLATES", "Scenes"]

CLASS_NAMES = ("wall", "floor", "drum", "cake", "ball", "melon", "book", "slate")
WALL, FLOOR = 0, 1

PAIRS = ((2, 3), (4, 5), (6, 7))
"""Class indices of the look-alike pairs: cylinders, spheres, slabs."""
CYLINDER, SPHERE, SLAB = 0, 1, 2

TEMPLATES = ("a photo of a {}", "there is a {} in the room")
"""The wordings of a caption's sentences."""

MAX_OBJECTS = 6
MIN_SIDE = 16

# A part of every fingerprint: raise it whenever a change alters what is drawn or said.
RENDERER_VERSION = 1

# float32 throughout at run time, for speed.
Floats = NDArray[np.floating[Any]]

# Base colors (main, second) in [0, 1] by pair and by appearance: first member, second member, shared.
COLORS: NDArray[np.float32] = np.array(
    [
        [
            [[0.15, 0.25, 0.75], [0.85, 0.75, 0.25]],  # drum: blue with brass hoops
            [[0.42, 0.24, 0.12], [0.95, 0.70, 0.78]],  # cake: brown with pink icing
            [[0.52, 0.30, 0.62], [0.70, 0.55, 0.78]],  # both: violet, lighter lid
        ],
        [
            [[0.85, 0.15, 0.12], [0.95, 0.95, 0.92]],  # ball: red with a white band
            [[0.15, 0.42, 0.15], [0.55, 0.75, 0.30]],  # melon: green stripes
            [[0.88, 0.62, 0.20], [0.80, 0.52, 0.15]],  # both: ochre
        ],
        [
            [[0.60, 0.10, 0.22], [0.93, 0.90, 0.80]],  # book: crimson cover, pale pages
            [[0.14, 0.17, 0.18], [0.62, 0.45, 0.27]],  # slate: black in a wooden frame
            [[0.20, 0.58, 0.58], [0.32, 0.70, 0.68]],  # both: teal
        ],
    ],
    dtype=np.float32,
)
SHARED = 2


@dataclasses.dataclass(frozen=True)
class _Object:
    pair: int
    member: int
    is_ambiguous: bool
    depth: float  # metres from the camera to its centre
    column: float  # of its centre, pixels
    foot: float  # row where it stands on the floor, pixels
    scale: float  # pixels per metre at its depth
    size: float  # half width in metres
    aspect: float  # height over width
    angle: float  # radians: lean of a slab, roll of a pattern
    phase: float  # of its pattern
    jitter: Floats  # 2 x 3, added to the two colors

    @property
    def label(self) -> int:
        return PAIRS[self.pair][self.member]


@dataclasses.dataclass(frozen=True)
class _Plan:
    horizon: float  # row
    wall_depth: float  # metres
    boundary: float  # row where wall and floor meet
    focal: float  # pixels
    camera_height: float  # metres
    objects: tuple[_Object, ...]  # far to near


@dataclasses.dataclass(frozen=True)
class _Window:
    """The part of the image that an object may cover, with its local coordinates."""

    rows: slice
    columns: slice
    inside: NDArray[np.bool_]
    u: Floats  # across, -1 to 1 on the object
    v: Floats  # down, -1 to 1 on the object
    is_lid: NDArray[np.bool_] | None  # a cylinder's upper face


class Scenes:
    """A `DataSource` of rendered scenes with depth (metres) and captions; each scene is its own cluster.

    The same arguments give the same samples in every process on one machine (another machine's floating point may
    round single pixels otherwise).  Across values of ``necessity`` the scenes' layout, noise and light stay the same:
    a scene whose pair is ambiguous at one necessity is so at every higher one.

    Args:
        necessity: probability in [0, 1] that a pair's members look alike in a scene, so that only the caption tells.
        n_train: number of images of split ``train``, at least 1.
        n_val: number of images of split ``val``, at least 1.
        size: (H, W) in pixels, both at least 16.
        seed: of layout, members, captions and noise.

    Raises:
        ConfigError: an argument is out of range.
    """

    kind = "scenes"
    class_names: tuple[str, ...] = CLASS_NAMES
    splits: tuple[str, ...] = ("train", "val")
    has_depth = True
    has_texts = True

    def __init__(
        self,
        necessity: float = SCENES.necessity,
        n_train: int = SCENES.n_train,
        n_val: int = SCENES.n_val,
        size: tuple[int, int] = SCENES.size,
        seed: int = SCENES.seed,
    ) -> None:
        if not 0.0 <= necessity <= 1.0:
            raise ConfigError(
                f"the text necessity of scenes is {necessity}, expected a number from 0 (pixels suffice) "
                "to 1 (only the text tells members of a pair apart)"
            )
        for split, count in (("train", n_train), ("val", n_val)):
            if count < 1:
                raise ConfigError(f"scenes were asked for {count} images of split {split!r}, expected at least 1")
        if len(size) != 2 or min(size) < MIN_SIDE:
            raise ConfigError(
                f"the size of scenes is {list(size)}, expected [H, W] with both at least {MIN_SIDE} pixels"
            )
        self.necessity = float(necessity)
        self.size = (int(size[0]), int(size[1]))
        self.seed = int(seed)
        self._counts = {"train": int(n_train), "val": int(n_val)}
        # Captions and class lists need a scene's labels: kept, since every bank asks for them again.  A dictionary's
        # single reads and writes are atomic, and two threads would write equal values.
        self._present: dict[tuple[str, str], tuple[int, ...]] = {}
        self._names = {split: tuple(f"{index:05d}" for index in range(count)) for split, count in self._counts.items()}

    def names(self, split: str) -> tuple[str, ...]:
        """``("00000", "00001", ...)``; the same name in another split is another scene."""
        if split not in self._names:
            raise unknown_split(split, self.splits, "scenes")
        return self._names[split]

    def load(self, split: str, name: str) -> Sample:
        """Render one scene."""
        return self._sample(split, name, is_swapped=False)

    def counterpart(self, split: str, name: str) -> Sample:
        """Render the same scene with every ambiguous pair's coin turned over.

        Image and depth are equal to those of `load` byte for byte; mask and texts name the other member.
        """
        return self._sample(split, name, is_swapped=True)

    def image(self, split: str, name: str) -> ImageArray:
        """Render one scene's image."""
        return self.load(split, name).image

    def texts(self, split: str) -> dict[str, tuple[str, ...]]:
        """Captions of every scene: one sentence per class present in its mask, in random order."""
        return {name: self._caption(split, name, self.mask_classes(split, name)) for name in self.names(split)}

    def mask_classes(self, split: str, name: str) -> tuple[int, ...]:
        """Sorted classes present; draws the labels only."""
        key = (split, name)
        if key not in self._present:
            self._check_name(split, name)
            plan = self._plan(split, name, is_swapped=False)
            self._present[key] = _classes_in(self._labels(plan, [self._window(plan, item) for item in plan.objects]))
        return self._present[key]

    def clusters(self, split: str) -> dict[str, str]:
        """Each scene is its own cluster, named by split and name."""
        return {name: f"{split}/{name}" for name in self.names(split)}

    def fingerprint(self, split: str) -> str:
        """SHA-256 of everything that decides what ``split`` contains."""
        self.names(split)
        facts = {
            "kind": self.kind,
            "renderer": RENDERER_VERSION,
            "split": split,
            "necessity": self.necessity,
            "count": self._counts[split],
            "size": self.size,
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return the arguments, the counts and the class names."""
        return {
            "kind": self.kind,
            "classes": list(CLASS_NAMES),
            "splits": dict(self._counts),
            "depth": True,
            "texts": True,
            "necessity": self.necessity,
            "size": list(self.size),
            "seed": self.seed,
        }

    def _check_name(self, split: str, name: str) -> None:
        known = self.names(split)
        index = int(name) if name.isascii() and name.isdigit() else len(known)
        if index >= len(known) or name != known[index]:
            raise unknown_name(split, name, "scenes", known)

    def _sample(self, split: str, name: str, *, is_swapped: bool) -> Sample:
        self._check_name(split, name)
        plan = self._plan(split, name, is_swapped=is_swapped)
        windows = [self._window(plan, item) for item in plan.objects]
        mask = self._labels(plan, windows)
        image, depth = self._shade(plan, windows, numpy_generator(self.seed, "scenes", split, int(name), "shade"))
        return Sample(
            name=name,
            image=image,
            mask=mask,
            depth=depth,
            texts=self._caption(split, name, _classes_in(mask)),
            cluster=f"{split}/{name}",
        )

    def _caption(self, split: str, name: str, classes: tuple[int, ...]) -> tuple[str, ...]:
        rng = numpy_generator(self.seed, "scenes", split, int(name), "caption")
        order = rng.permutation(len(CLASS_NAMES))
        wording = rng.integers(len(TEMPLATES), size=len(CLASS_NAMES))
        return tuple(
            TEMPLATES[wording[place]].format(CLASS_NAMES[index])
            for place, index in enumerate(order)
            if index in classes
        )

    def _plan(self, split: str, name: str, *, is_swapped: bool) -> _Plan:
        height, width = self.size
        # The coins have a stream of their own: nothing that is drawn from the layout's depends on them.
        coins = numpy_generator(self.seed, "scenes", split, int(name), "members")
        is_ambiguous = coins.random(len(PAIRS)) < self.necessity
        shared_member = coins.integers(2, size=len(PAIRS))
        own_member = coins.integers(2, size=MAX_OBJECTS)
        if is_swapped:
            shared_member = 1 - shared_member

        rng = numpy_generator(self.seed, "scenes", split, int(name), "layout")
        horizon = height * rng.uniform(0.20, 0.38)
        focal = height * rng.uniform(0.95, 1.15)
        camera_height = rng.uniform(1.1, 1.5)
        wall_depth = rng.uniform(4.0, 6.0)
        count = int(rng.integers(2, MAX_OBJECTS + 1))
        pairs = rng.integers(len(PAIRS), size=MAX_OBJECTS)
        # Uniform in inverse depth is uniform over the floor's rows.
        near, far = 1.0 / 2.0, 1.0 / (wall_depth - 0.6)
        inverse_depths = rng.uniform(far, near, MAX_OBJECTS)
        columns = width * rng.uniform(0.04, 0.96, MAX_OBJECTS)
        sizes = rng.uniform(0.28, 0.55, MAX_OBJECTS)
        aspects = rng.uniform(0.7, 1.3, MAX_OBJECTS)
        angles = rng.uniform(-0.45, 0.45, MAX_OBJECTS)
        phases = rng.uniform(0.0, 1.0, MAX_OBJECTS)
        jitters = rng.normal(0.0, 0.04, (MAX_OBJECTS, 2, 3)).astype(np.float32)

        objects = []
        for index in np.argsort(inverse_depths[:count]):
            pair = int(pairs[index])
            scale = focal * float(inverse_depths[index])
            objects.append(
                _Object(
                    pair=pair,
                    member=int(shared_member[pair] if is_ambiguous[pair] else own_member[index]),
                    is_ambiguous=bool(is_ambiguous[pair]),
                    depth=1.0 / float(inverse_depths[index]),
                    column=float(columns[index]),
                    foot=horizon + scale * camera_height,
                    scale=scale,
                    size=float(sizes[index]),
                    aspect=float(aspects[index]),
                    angle=float(angles[index]),
                    phase=float(phases[index]),
                    jitter=jitters[index],
                )
            )
        return _Plan(
            horizon=horizon,
            wall_depth=wall_depth,
            boundary=horizon + focal * camera_height / wall_depth,
            focal=focal,
            camera_height=camera_height,
            objects=tuple(objects),
        )

    def _window(self, plan: _Plan, item: _Object) -> _Window:
        height, width = self.size
        half = item.size * item.scale  # half width in pixels
        if item.pair == SPHERE:
            centre, reach_y, reach_x = item.foot - half, half, half
        elif item.pair == CYLINDER:
            tall = half * item.aspect
            centre, reach_y, reach_x = item.foot - tall, tall, half
        else:
            cosine, sine = float(np.cos(item.angle)), float(np.sin(item.angle))
            wide, tall = 0.75 * half, half * item.aspect
            reach_x, reach_y = wide * cosine + tall * abs(sine), tall * cosine + wide * abs(sine)
            centre = item.foot - reach_y
        rows = slice(*np.clip([int(centre - reach_y), int(centre + reach_y) + 2], 0, height))
        columns = slice(*np.clip([int(item.column - reach_x), int(item.column + reach_x) + 2], 0, width))
        # Shift to the centre of the pixel.
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5 - centre))[:, None]
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5 - item.column))[None, :]
        if item.pair == SLAB:
            u = (x * np.float32(cosine) + y * np.float32(sine)) / np.float32(wide)
            v = (y * np.float32(cosine) - x * np.float32(sine)) / np.float32(tall)
            return _Window(rows, columns, (np.abs(u) < 1) & (np.abs(v) < 1), u, v, None)
        u, v = np.broadcast_arrays(x / np.float32(reach_x), y / np.float32(reach_y))
        if item.pair == SPHERE:
            return _Window(rows, columns, u * u + v * v < 1, u, v, None)
        # Half height of the ellipses of lid and foot, seen from above, in units of v.
        lid = np.float32(0.22)
        curve = lid * np.sqrt(np.maximum(1 - u * u, 0))
        is_lid = np.abs(v + 1 - lid) < curve
        inside = (np.abs(u) < 1) & (v > -1 + lid - curve) & (v < 1 - lid + curve)
        return _Window(rows, columns, inside, u, v, is_lid)

    def _labels(self, plan: _Plan, windows: list[_Window]) -> MaskArray:
        labels = np.full(self.size, WALL, np.uint8)
        labels[self._floor_rows(plan)] = FLOOR
        for item, window in zip(plan.objects, windows, strict=True):
            labels[window.rows, window.columns][window.inside] = item.label
        return labels

    def _floor_rows(self, plan: _Plan) -> slice:
        # The first row whose centre lies on the floor.
        return slice(min(self.size[0], int(np.ceil(plan.boundary - 0.5))), None)

    def _shade(self, plan: _Plan, windows: list[_Window], rng: np.random.Generator) -> tuple[ImageArray, DepthArray]:
        height, width = self.size
        # Every random number of the image is drawn here, in a fixed order and number, before any object is looked at.
        wall_color = rng.uniform(0.45, 0.85, 3).astype(np.float32)
        floor_color = (rng.uniform(0.25, 0.60) + rng.uniform(-0.10, 0.10, 3)).astype(np.float32)
        wall_contrast, floor_contrast = rng.uniform(0.02, 0.12), rng.uniform(0.05, 0.22)
        wall_period, tile = rng.uniform(0.25, 0.7), rng.uniform(0.4, 0.9)
        offset = rng.uniform(0.0, 1.0, 2)
        gain = rng.uniform(0.65, 1.15)
        tint = rng.normal(1.0, 0.05, 3).astype(np.float32)
        light_angle, fall = rng.uniform(-1.0, 1.0), rng.uniform(-0.25, 0.25)
        noise_level = rng.uniform(0.01, 0.04)
        noise = rng.standard_normal((height, width, 3), dtype=np.float32)
        depth_noise = rng.standard_normal((height, width), dtype=np.float32)
        speckle = rng.random((height, width), dtype=np.float32)
        hole_centres = rng.uniform(0.0, 1.0, (3, 2))
        hole_radii = rng.uniform(0.02, 0.07, 3)

        image = np.empty((height, width, 3), np.float32)
        depth = np.full((height, width), plan.wall_depth, np.float32)
        x = np.arange(width, dtype=np.float32) + np.float32(0.5)
        y = np.arange(height, dtype=np.float32) + np.float32(0.5)

        # Wall: vertical stripes of equal width in metres.
        across = (x - width / 2) * np.float32(plan.wall_depth / plan.focal) / np.float32(wall_period)
        stripes = np.where((across + np.float32(offset[0])) % 1 < 0.5, 1 - wall_contrast, 1 + wall_contrast)
        image[:] = wall_color * stripes.astype(np.float32)[:, None]
        # Floor: square tiles in perspective.
        floor = self._floor_rows(plan)
        along = np.float32(plan.focal * plan.camera_height) / (y[floor] - np.float32(plan.horizon))  # metres
        sideways = (x - width / 2) * (along / np.float32(plan.focal))[:, None]  # metres
        parity = (
            np.floor(sideways / np.float32(tile) + np.float32(offset[0]))
            + np.floor(along / np.float32(tile) + np.float32(offset[1]))[:, None]
        ) % 2
        tiles = 1 + np.float32(floor_contrast) * (2 * parity - 1)
        depth[floor] = along[:, None]
        for item in plan.objects:
            tiles *= self._shadow(item, x, y[floor])
        image[floor] = floor_color * tiles[:, :, None]
        light = np.array([light_angle, -0.7, 0.8], np.float32)
        light /= np.linalg.norm(light)
        for item, window in zip(plan.objects, windows, strict=True):
            _paint(item, window, light, image[window.rows, window.columns], depth[window.rows, window.columns])

        slope = 1 + np.float32(fall) * (2 * x / width - 1)
        image *= (np.float32(gain) * slope)[:, None] * tint
        image += np.float32(noise_level) * noise
        # Sensors measure near things better: the error grows with the square of the distance.
        depth += np.float32(0.004) * depth * depth * depth_noise
        depth[speckle < 0.005] = 0
        for (row, column), radius in zip(hole_centres, hole_radii, strict=True):
            top, left, reach = int(row * height), int(column * width), max(1, int(radius * height))
            depth[max(0, top - reach) : top + reach, max(0, left - reach) : left + reach] = 0
        np.clip(image, 0, 1, out=image)
        image *= 255
        image += np.float32(0.5)
        return image.astype(np.uint8), depth

    def _shadow(self, item: _Object, x: Floats, y: Floats) -> Floats:
        half = np.float32(1.15 * item.size * item.scale)
        u = (x - np.float32(item.column)) / half
        v = (y - np.float32(item.foot)) / (np.float32(0.3) * half)
        return 1 - np.float32(0.45) * np.maximum(1 - u[None, :] ** 2 - v[:, None] ** 2, 0)


def _classes_in(mask: MaskArray) -> tuple[int, ...]:
    counts = np.bincount(mask.ravel(), minlength=len(CLASS_NAMES))
    return tuple(int(index) for index in np.flatnonzero(counts))


def _paint(item: _Object, window: _Window, light: Floats, image: Floats, depth: Floats) -> None:
    """Draw one object into its window of image and depth, in place.

    The member must not be read where the pair is ambiguous: that is the law of this module.
    """
    appearance = SHARED if item.is_ambiguous else item.member
    main, second = COLORS[item.pair, appearance] + item.jitter
    u, v, inside = window.u, window.v, window.inside
    size = np.float32(item.size)
    if item.pair == SLAB:
        facing: Any = np.float32(0.75 + 0.25 * light[0])
        is_second = _slab_pattern(appearance, u, v, item.phase)
        relief: Any = size * np.float32(0.15) * v
    else:
        bulge = np.sqrt(np.maximum(1 - u * u - (v * v if item.pair == SPHERE else 0), 0))
        normal_y = v if item.pair == SPHERE else np.float32(0)
        facing = np.float32(0.4) + np.float32(0.7) * np.maximum(
            u * light[0] + normal_y * light[1] + bulge * light[2], 0
        )
        relief = -size * bulge
        if item.pair == SPHERE:
            is_second = _sphere_pattern(appearance, u, v, bulge, item)
        else:
            assert window.is_lid is not None
            is_second = window.is_lid | _cylinder_pattern(appearance, u, v, item.phase)
            facing = np.where(window.is_lid, np.float32(0.95), facing)
            relief = np.where(window.is_lid, -size * (v + 1 - np.float32(0.22)) / np.float32(0.22), relief)
    color = np.where(is_second[..., None], second, main) * np.broadcast_to(facing, u.shape)[..., None]
    np.copyto(image, color, where=inside[..., None])
    np.copyto(depth, np.float32(item.depth) + relief, where=inside)


def _cylinder_pattern(appearance: int, u: Floats, v: Floats, phase: float) -> NDArray[np.bool_]:
    if appearance == SHARED:
        return np.zeros(u.shape, bool)
    if appearance == 0:  # a drum's zigzag cord between two hoops
        zigzag = np.abs(((1.5 * np.arcsin(np.clip(u, -1, 1)) + np.float32(phase)) % 1) - 0.5) * 2 - 0.5
        return (np.abs(v - zigzag) < 0.18) | (v > 0.72)
    is_cream: NDArray[np.bool_] = np.abs((v * 2 + np.float32(phase)) % 1 - 0.5) < 0.16  # between a cake's layers
    return is_cream


def _sphere_pattern(appearance: int, u: Floats, v: Floats, bulge: Floats, item: _Object) -> NDArray[np.bool_]:
    if appearance == SHARED:
        return np.zeros(u.shape, bool)
    cosine, sine = np.float32(np.cos(item.angle)), np.float32(np.sin(item.angle))
    across, down = u * cosine + v * sine, v * cosine - u * sine
    if appearance == 0:  # a ball's band
        return np.abs(down - np.float32(0.3 * (item.phase - 0.5))) < 0.26
    longitude = np.arctan2(across, bulge)  # a melon's stripes run from pole to pole
    is_stripe: NDArray[np.bool_] = (longitude * np.float32(1.3) + np.float32(item.phase)) % 1 < 0.4
    return is_stripe


def _slab_pattern(appearance: int, u: Floats, v: Floats, phase: float) -> NDArray[np.bool_]:
    is_second: NDArray[np.bool_] = np.abs(u) > 0.86
    if appearance == 0:  # a book's pages along one edge and its title
        is_second = (u > 0.76) | ((np.abs(u) < 0.45) & (np.abs(v + np.float32(0.2 + 0.4 * phase)) < 0.12))
    elif appearance == 1:  # a slate's frame
        is_second = (np.abs(u) > 0.8) | (np.abs(v) > 0.85)
    return is_second
