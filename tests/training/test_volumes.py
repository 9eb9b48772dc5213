"""Patches of annotated volumes hold labels, show what is labeled, and read no more than needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_unet.augment.geometric import GeometricSettings
from napari_unet.augment.intensity import IntensitySettings
from napari_unet.core.annotation import Annotation
from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.normalization import Normalization
from napari_unet.core.receptive import unet_geometry
from napari_unet.errors import AnnotationError, TrainingError
from napari_unet.io.image import Selection, wrap_array
from napari_unet.training.volumes import AnnotatedVolume, VolumeSampler, VolumeSamplerSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.boxes import Shape

GEOMETRY = unet_geometry(2)
HALO = GEOMETRY.halo[1]
STILL = IntensitySettings(gain_sigma=0, offset_sigma=0, gamma_sigma=0, noise_max=0, blur_max=0)
WILD = GeometricSettings(free_share=1, elastic_sigma=10, scale_sigma=0.2)
GRID_ONLY = GeometricSettings(free_share=0)
UNCHANGED = Normalization(offset=(0.0,), scale=(1.0,))
NAMES = ("one", "two", "three")


def volume(
    image: npt.NDArray[Any], labels: npt.NDArray[np.integer], **options: Any
) -> AnnotatedVolume:
    """Return an annotated volume of an image (z, y, x) or (c, z, y, x)."""
    several = image.ndim == 4
    selection = Selection(
        axes="czyx" if several else "zyx",
        channel=",".join(str(c) for c in range(len(image))) if several else None,
    )
    channels = len(image) if several else 1
    unchanged = Normalization(offset=(0.0,) * channels, scale=(1.0,) * channels)
    return AnnotatedVolume(
        wrap_array(image, selection),
        Annotation.from_array(labels, NAMES, block_shape=(1, 16, 16)),
        **{"normalization": unchanged} | options,
    )


def settings(**options: Any) -> VolumeSamplerSettings:
    return VolumeSamplerSettings(
        **{"output_edge": 12, "geometric": GRID_ONLY, "intensity": STILL} | options
    )


def one_pixel(shape: Shape, at: Shape, **options: Any) -> AnnotatedVolume:
    labels = np.zeros(shape, np.uint8)
    labels[at] = 2
    return volume(np.zeros(shape, np.float32), labels, **options)


def inner(images: torch.Tensor) -> torch.Tensor:
    return images[..., HALO:-HALO, HALO:-HALO]


def test_patches_have_the_sizes_of_the_network(rng: np.random.Generator) -> None:
    drawn = settings(output_edge=29, batch_size=3)
    sampler = VolumeSampler([one_pixel((2, 90, 80), (1, 40, 40))], GEOMETRY, drawn)
    batch = sampler.draw(rng)
    height, width = sampler.frame.input_shape
    assert GEOMETRY.axes[1].is_legal(height)
    assert batch.image.shape == (3, 1, height, width)
    assert batch.labels.shape == (3, height - 2 * HALO, width - 2 * HALO)
    assert (batch.image.dtype, batch.labels.dtype) == (torch.float32, torch.int64)
    assert batch.weights is None


@pytest.mark.parametrize(
    ("shape", "at"),
    [
        ((1, 1, 1), (0, 0, 0)),
        ((1, 1, 9), (0, 0, 8)),
        ((1, 5, 7), (0, 4, 0)),
        ((3, 61, 50), (2, 0, 49)),
        ((3, 61, 50), (0, 30, 25)),
    ],
)
@pytest.mark.parametrize("geometric", [WILD, GRID_ONLY])
def test_every_patch_holds_a_label(shape: Shape, at: Shape, geometric: GeometricSettings) -> None:
    sampler = VolumeSampler([one_pixel(shape, at)], GEOMETRY, settings(geometric=geometric))
    for seed in range(20):
        labels = sampler.draw(np.random.default_rng(seed)).labels
        assert set(labels.unique().tolist()) <= {0, 2}
        assert (labels == 2).any()


def test_a_pixel_lies_anywhere_in_its_patches(rng: np.random.Generator) -> None:
    sampler = VolumeSampler([one_pixel((1, 99, 99), (0, 49, 49))], GEOMETRY, settings())
    places = torch.cat([sampler.draw(rng).labels.nonzero()[:, 1:] for _ in range(240)]).numpy()
    assert len(places) == 240
    edge = sampler.frame.output_shape[0]
    for axis in (0, 1):
        counts = np.bincount(places[:, axis], minlength=edge)
        # 5 standard deviations of a binomial count
        assert np.abs(counts - 240 / edge).max() < 5 * np.sqrt(240 / edge)


@pytest.mark.parametrize("geometric", [WILD, GRID_ONLY])
def test_little_of_a_patch_lies_outside(
    rng: np.random.Generator, geometric: GeometricSettings
) -> None:
    ones = np.ones((1, 60, 60), np.uint8)
    sampler = VolumeSampler(
        [volume(ones, ones)], GEOMETRY, settings(output_edge=30, geometric=geometric)
    )
    labeled = [float((sampler.draw(rng).labels > 0).float().mean()) for _ in range(60)]
    # 0.69 of it would be labeled if pixels near the edge lay anywhere in their patches.
    assert np.mean(labeled) > 0.8


def test_an_image_as_large_as_the_patch_is_seen_under_all_pooling_grids(
    rng: np.random.Generator,
) -> None:
    ones = np.ones((1, 28, 28), np.uint8)
    sampler = VolumeSampler([volume(ones, ones)], GEOMETRY, settings(output_edge=28))
    assert sampler.frame.output_shape == (28, 28)
    shifts = set()
    for _ in range(60):
        rows = sampler.draw(rng).labels[0].nonzero()[:, 0]
        first, last = int(rows.min()), int(rows.max())
        shifts.add(first if first > 0 else last - 27)
    assert {shift % GEOMETRY.stride[1] for shift in shifts} == set(range(GEOMETRY.stride[1]))


def test_labels_lie_under_their_pixels_and_outside_is_ignored(rng: np.random.Generator) -> None:
    labels = rng.integers(1, 4, (3, 21, 34)).astype(np.uint8)
    sampler = VolumeSampler([volume(labels, labels)], GEOMETRY, settings(output_edge=30))
    for _ in range(20):
        batch = sampler.draw(rng)
        labeled = batch.labels > 0
        assert not labeled.all()
        shown = inner(batch.image)[:, 0]
        assert torch.allclose(shown[labeled], batch.labels[labeled].float(), atol=1e-3)
        # Outside, the image is mirrored into the patch, its labels are not.
        assert 0.99 < float(batch.image.min()) < float(batch.image.max()) < 3.01


@pytest.mark.parametrize("geometric", [WILD, GRID_ONLY])
def test_the_whole_patch_shows_one_smooth_map(geometric: GeometricSettings) -> None:
    """The image tells y and x of each pixel: a crop that is too small would fold this map."""
    image = np.stack(np.mgrid[:400, :400])[:, None].astype(np.float32)
    labels = np.zeros((1, 400, 400), np.uint8)
    labels[0, 200, 200:203] = 1
    sampler = VolumeSampler([volume(image, labels)], GEOMETRY, settings(geometric=geometric))
    for seed in range(10):
        shown = sampler.draw(np.random.default_rng(seed)).image[0]
        bends = [shown.diff(n=2, dim=dim).abs().max() for dim in (1, 2)]
        assert float(max(bends)) < (0.5 if geometric is WILD else 1e-3)


def disk(rng: np.random.Generator) -> AnnotatedVolume:
    """Return a plane with one bright disk: of class 1 and of weight 3, all around class 2."""
    y, x = np.mgrid[:120, :120]
    cy, cx = rng.integers(40, 80, 2)
    inside = ((y - cy) ** 2 + (x - cx) ** 2 < 36)[None]

    def weights(box: Box) -> npt.NDArray[np.float32]:
        return np.where(inside, np.float32(3), np.float32(1))[box.slices]

    return volume(8.0 * inside, np.where(inside, 1, 2), pixel_weights=weights)


def test_all_changes_together_keep_image_labels_and_weights_aligned() -> None:
    changes = settings(
        output_edge=44,
        geometric=WILD.model_copy(update={"elastic_sigma": 4.0}),
        intensity=IntensitySettings(share=1),
        rare_power=1,
    )
    seen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        batch = VolumeSampler([disk(rng)], GEOMETRY, changes).draw(rng)
        labels, shown = batch.labels[0], inner(batch.image)[0, 0]
        assert batch.weights is not None
        assert torch.equal(batch.weights[0], torch.tensor([0.0, 3.0, 1.0])[labels])
        marked = labels == 1
        at_edge = torch.cat([marked[0], marked[-1], marked[:, 0], marked[:, -1]]).any()
        if at_edge or not marked.any():
            continue
        bright = shown > (batch.image.min() + batch.image.max()) / 2
        shift = bright.nonzero().float().mean(dim=0) - marked.nonzero().float().mean(dim=0)
        assert float(shift.norm()) < 0.5
        seen += 1
    assert seen > 8


def test_the_slice_above_and_below_are_channels_mirrored_at_the_ends() -> None:
    depth, context = 4, 2
    value = 10 * np.arange(2)[:, None] + np.arange(depth)  # (c, z)
    image = np.broadcast_to(value[:, :, None, None], (2, depth, 30, 30)).astype(np.float32)
    for z, seen in ((0, [2, 1, 0, 1, 2]), (2, [0, 1, 2, 3, 2]), (3, [1, 2, 3, 2, 1])):
        labels = np.zeros((depth, 30, 30), np.uint8)
        labels[z, 10:12] = 1
        sampler = VolumeSampler([volume(image, labels)], GEOMETRY, settings(), context=context)
        found = sampler.draw(np.random.default_rng(z)).image[0]
        expected = torch.tensor([10.0 * c + s for c in range(2) for s in seen])
        assert torch.allclose(found, expected.reshape(10, 1, 1).expand_as(found), atol=1e-4)


def test_one_normalization_holds_for_all_patches(rng: np.random.Generator) -> None:
    image = np.full((1, 40, 40), 130, np.uint8)
    labels = np.ones((1, 40, 40), np.uint8)
    given = Normalization(offset=(100.0,), scale=(15.0,))
    batch = VolumeSampler([volume(image, labels, normalization=given)], GEOMETRY, settings()).draw(
        rng
    )
    assert torch.allclose(batch.image, torch.tensor(2.0), atol=1e-4)


def test_what_is_not_finite_is_ignored(rng: np.random.Generator) -> None:
    labels = rng.integers(1, 3, (3, 30, 40)).astype(np.uint8)
    image = labels.astype(np.float32)
    image[1, :, :25] = np.nan
    image[1, 3, 30] = np.inf
    image[0] = np.nan
    sampler = VolumeSampler([volume(image, labels)], GEOMETRY, settings(), context=1)
    for _ in range(20):
        batch = sampler.draw(rng)
        assert torch.isfinite(batch.image).all()
        labeled = batch.labels > 0
        assert labeled.any()
        middle = inner(batch.image)[:, 1]
        assert torch.allclose(middle[labeled], batch.labels[labeled].float(), atol=1e-3)


def test_only_pixels_without_gray_value_give_a_patch_without_labels(
    rng: np.random.Generator,
) -> None:
    labels = np.ones((1, 30, 30), np.uint8)
    image = np.full((1, 30, 30), np.nan, np.float32)
    batch = VolumeSampler([volume(image, labels)], GEOMETRY, settings()).draw(rng)
    assert not batch.labels.any()
    assert not batch.image.any()


def test_weights_are_asked_for_inside_the_volume_only(rng: np.random.Generator) -> None:
    shape = (2, 20, 25)
    weights = rng.random(shape, dtype=np.float32) + 1
    asked: list[Box] = []

    def read(box: Box) -> npt.NDArray[np.float32]:
        asked.append(box)
        return weights[box.slices]

    labels = np.ones(shape, np.uint8)
    weighted = volume(weights, labels, pixel_weights=read)
    sampler = VolumeSampler([weighted], GEOMETRY, settings(output_edge=30))
    batch = sampler.draw(rng)
    assert batch.weights is not None
    labeled = batch.labels > 0
    assert torch.allclose(batch.weights[labeled], inner(batch.image)[:, 0][labeled], atol=1e-3)
    assert not batch.weights[~labeled].any()
    (box,) = asked
    assert Box.of_shape(shape).contains(box)
    assert box.shape[0] == 1

    plain = volume(weights, np.full(shape, 2, np.uint8))
    mixed = VolumeSampler([weighted, plain], GEOMETRY, settings(batch_size=20)).draw(rng)
    assert mixed.weights is not None
    of_plain = mixed.labels == 2
    assert of_plain.any()
    assert (mixed.labels == 1).any()
    assert (mixed.weights[of_plain] == 1).all()


class EndlessImage:
    """An image of ten petabytes: each voxel tells whether x is odd."""

    name = "endless"
    spatial_axes = "zyx"
    shape = (10**5, 3 * 10**5, 3 * 10**5)
    num_channels = 1
    dtype = np.dtype(np.uint8)
    levels = (PyramidLevel(shape, VoxelSize()),)

    def __init__(self) -> None:
        self.boxes: list[Box] = []

    def read(self, box: Box) -> npt.NDArray[np.uint8]:
        self.boxes.append(box)
        row = (np.arange(box.start[2], box.stop[2]) % 2).astype(np.uint8)
        return np.broadcast_to(row, (1, *box.shape))

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        return ()

    def count_missing_chunks(self, box: Box) -> int:
        return 0

    def identity(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def test_of_an_endless_image_only_the_patch_is_read(rng: np.random.Generator) -> None:
    image = EndlessImage()
    annotation = Annotation(image.shape, NAMES)
    x = 123_456
    stroke = Box((70_000, 200_000, x), (70_001, 200_001, x + 8))
    annotation.write(stroke, np.array([[[1, 2] * 4]]))
    sampler = VolumeSampler(
        [AnnotatedVolume(image, annotation, UNCHANGED)], GEOMETRY, settings(), context=1
    )
    for _ in range(5):
        batch = sampler.draw(rng)
        labeled = batch.labels > 0
        shown = inner(batch.image)[:, 1][labeled]
        assert torch.allclose(shown, batch.labels[labeled].float() - 1, atol=1e-2)
    height, width = sampler.frame.input_shape
    for box in image.boxes:
        assert box.shape[0] == 3
        assert box.contains(Box((70_000, 200_000, box.start[2]), (70_001, 200_001, box.start[2])))
        assert box.shape[1] <= height + 4
        assert box.shape[2] <= width + 4


@pytest.mark.parametrize(("rare_power", "expected"), [(0.0, 0.9), (0.5, 0.75), (1.0, 0.5)])
def test_rare_classes_are_favored_as_set(
    rng: np.random.Generator, rare_power: float, expected: float
) -> None:
    labels = np.zeros((1, 10, 10), np.uint8)
    labels[0, :9], labels[0, 9] = 1, 3
    sampler = VolumeSampler([volume(labels, labels)], GEOMETRY, settings(rare_power=rare_power))
    drawn = [labels[sampler.draw_anchor(rng)[1]] for _ in range(1000)]
    assert set(drawn) == {1, 3}
    assert drawn.count(1) / 1000 == pytest.approx(expected, abs=0.06)


def test_volumes_are_drawn_by_share_and_by_what_is_annotated(rng: np.random.Generator) -> None:
    few, many = np.zeros((1, 8, 8), np.uint8), np.ones((1, 8, 8), np.uint8)
    few[0, 0, :4] = 1
    volumes = [volume(few, few, share=2.0), volume(many, many), volume(many, many, share=0.0)]
    sampler = VolumeSampler(volumes, GEOMETRY, settings(rare_power=0.5))
    numbers = [sampler.draw_anchor(rng)[0] for _ in range(1000)]
    # 2 * sqrt(4) against 1 * sqrt(64)
    assert numbers.count(0) / 1000 == pytest.approx(1 / 3, abs=0.06)
    assert 2 not in numbers


def test_the_same_generator_gives_the_same_batch(rng: np.random.Generator) -> None:
    image = rng.normal(size=(2, 60, 60)).astype(np.float32)
    labels = rng.integers(0, 4, (2, 60, 60))
    wild = settings(geometric=WILD, intensity=IntensitySettings(), batch_size=2)
    sampler = VolumeSampler([volume(image, labels)], GEOMETRY, wild)
    first, second, other = (sampler.draw(np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.labels, second.labels)
    assert not torch.equal(first.image, other.image)
    assert not torch.equal(first.labels[0], first.labels[1])


@pytest.mark.parametrize(
    "intensity",
    [STILL, IntensitySettings(share=0), IntensitySettings(gamma_sigma=0), IntensitySettings()],
)
def test_gray_values_do_not_move_patches(
    rng: np.random.Generator, intensity: IntensitySettings
) -> None:
    labels = rng.integers(0, 4, (2, 60, 60))

    def draw(changed: IntensitySettings) -> torch.Tensor:
        drawn = settings(geometric=WILD, intensity=changed, batch_size=3)
        sampler = VolumeSampler([volume(labels, labels)], GEOMETRY, drawn)
        return sampler.draw(np.random.default_rng(4)).labels

    assert torch.equal(draw(intensity), draw(IntensitySettings(blur_max=0)))


def test_what_does_not_fit_is_refused(rng: np.random.Generator) -> None:
    image = wrap_array(np.zeros((2, 9, 9)), Selection(axes="zyx"), name="em")
    painted = np.ones((2, 9, 9), np.uint8)
    annotation = Annotation.from_array(painted, NAMES)
    with pytest.raises(TrainingError, match=r"\(1, 9, 9\) does not fit the image em"):
        AnnotatedVolume(image, Annotation.from_array(painted[:1], NAMES), UNCHANGED)
    with pytest.raises(TrainingError, match="one offset and scale per channel"):
        AnnotatedVolume(image, annotation, Normalization(offset=(0, 0), scale=(1, 1)))
    with pytest.raises(AnnotationError, match="nothing is annotated"):
        AnnotatedVolume(image, Annotation((2, 9, 9), NAMES), UNCHANGED)
    good = AnnotatedVolume(image, annotation, UNCHANGED)
    other = AnnotatedVolume(image, Annotation.from_array(painted, "abc"), UNCHANGED)
    with pytest.raises(TrainingError, match="same classes"):
        VolumeSampler([good, other], GEOMETRY, settings())
    with pytest.raises(TrainingError, match="give 0 or more"):
        VolumeSampler([good], GEOMETRY, settings(), context=-1)
    with pytest.raises(TrainingError, match="positive share"):
        VolumeSampler([], GEOMETRY, settings())
    wrong = AnnotatedVolume(
        image, annotation, UNCHANGED, pixel_weights=lambda box: np.ones(box.shape[1:], np.float32)
    )
    with pytest.raises(TrainingError, match="one weight per pixel"):
        VolumeSampler([wrong], GEOMETRY, settings()).draw(rng)


def pair_of(new: int, old: int, **options: Any) -> list[AnnotatedVolume]:
    """Return a volume with so many pixels to learn from, of class 1, and a rehearsed one of 2."""
    labels = np.zeros((2, 1, 60, 60), np.uint8)
    labels[0].flat[:new] = 1
    labels[1].flat[:old] = 2
    image = np.zeros((1, 60, 60), np.float32)
    return [volume(image, labels[0]), volume(image, labels[1], unknown=(3,), **options)]


@pytest.mark.parametrize(("new", "old"), [(1, 3600), (3600, 1), (50, 50)])
def test_the_share_of_rehearsal_does_not_depend_on_counts(
    rng: np.random.Generator, new: int, old: int
) -> None:
    sampler = VolumeSampler(pair_of(new, old), GEOMETRY, settings(rehearsal_share=0.3))
    numbers = [sampler.draw_anchor(rng)[0] for _ in range(2000)]
    # 5 standard deviations of a binomial count
    assert abs(np.mean(numbers) - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 2000)


def test_a_batch_says_which_patches_are_rehearsed(rng: np.random.Generator) -> None:
    drawn = settings(rehearsal_share=0.5, batch_size=8)
    sampler = VolumeSampler(pair_of(900, 900), GEOMETRY, drawn)
    batch = sampler.draw(rng)
    assert batch.rehearsed is not None
    is_old = (batch.labels == 2).flatten(1).any(1)
    assert 0 < int(is_old.sum()) < 8
    assert not (batch.labels == 1).flatten(1).any(1)[is_old].any()
    assert torch.equal(batch.rehearsed.patches, is_old)
    expected = is_old[:, None] & torch.tensor([False, False, True])
    assert torch.equal(batch.rehearsed.unknown, expected)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_without_rehearsal_everything_is_as_before(share: float) -> None:
    """A share of nothing, or of none, changes no patch."""
    learnt = pair_of(900, 900)[0]
    plain = VolumeSampler([learnt], GEOMETRY, settings()).draw(np.random.default_rng(1))
    volumes = [learnt] if share else pair_of(900, 900)
    sampler = VolumeSampler(volumes, GEOMETRY, settings(rehearsal_share=share))
    batch = sampler.draw(np.random.default_rng(1))
    assert batch.rehearsed is None
    assert torch.equal(batch.image, plain.image)
    assert torch.equal(batch.labels, plain.labels)


@pytest.mark.parametrize("label", [0, 4])
def test_unknown_classes_that_do_not_exist_are_refused(label: int) -> None:
    with pytest.raises(TrainingError, match="give some of 1 to 3"):
        one_pixel((1, 9, 9), (0, 4, 4), unknown=(1, label))
