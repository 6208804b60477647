"""Augmentation against torchvision, image by image, and the plan's promises about seeds and batches."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import functional as F

from kit.data.augment import EpochPlan, augment, batch_sizes, mixed, normalise
from kit.errors import KitError

pytestmark = pytest.mark.numerics


def random_pixels(n: int, h: int, w: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, h, w, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(("padding", "theirs"), [("reflect", "reflect"), ("zeros", "constant")])
@pytest.mark.parametrize(("h", "w", "pad"), [(16, 16, 2), (32, 32, 4), (9, 13, 3), (8, 8, 0), (8, 8, 7)])
def test_augment_is_torchvisions_pad_crop_flip(h, w, pad, padding, theirs):
    pixels = random_pixels(40, h, w)
    plan = EpochPlan(40, seed=1, epoch=2, pad=pad, flip=True)
    got = augment(pixels, plan.offsets, plan.flips, pad, padding)
    assert got.dtype == torch.uint8
    assert 5 < int(plan.flips.sum()) < 35
    for i in range(40):
        image = F.pad(pixels[i].permute(2, 0, 1), [pad] * 4, padding_mode=theirs) if pad else pixels[i].permute(2, 0, 1)
        top, left = plan.offsets[i].tolist()
        image = F.crop(image, top, left, h, w)
        image = F.hflip(image) if plan.flips[i] else image
        assert torch.equal(got[i], image.permute(1, 2, 0))


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_more_padding_than_there_is_to_mirror_is_refused(padding):
    """It would take neighbouring images' pixels."""
    pixels, plan = random_pixels(4, 8, 9), EpochPlan(4, seed=0, epoch=0, pad=8, flip=True)
    with pytest.raises(KitError, match="^pad 8 is not allowed for images of 8 × 9 px; allowed: 0 to 7$"):
        augment(pixels, plan.offsets, plan.flips, 8, padding)


def test_augment_takes_pixels_that_are_not_contiguous():
    pixels = random_pixels(6, 12, 10)
    plan = EpochPlan(6, 0, 0, 2, True)
    transposed = pixels.transpose(1, 2)  # (6, 10, 12, 3)
    expected = augment(transposed.contiguous(), plan.offsets, plan.flips, 2)
    assert torch.equal(augment(transposed, plan.offsets, plan.flips, 2), expected)


def test_normalise_is_torchvisions():
    pixels = random_pixels(7, 16, 12)
    mean, std = torch.tensor([120.0, 100.0, 90.0]), torch.tensor([60.0, 50.0, 70.0])
    got = normalise(pixels, mean, std)
    expected = F.normalize(pixels.permute(0, 3, 1, 2).float(), mean.tolist(), std.tolist())
    assert got.dtype == torch.float32
    eps = torch.finfo(torch.float32).eps  # a difference and a quotient are rounded here and there: 4 times by ε/2
    torch.testing.assert_close(got, expected, rtol=2 * eps, atol=0)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_same_seed_and_epoch_give_the_same_plan_and_others_do_not():
    one, two = EpochPlan(500, 7, 3, 2, True), EpochPlan(500, 7, 3, 2, True)
    assert torch.equal(one.order, two.order)
    assert torch.equal(one.offsets, two.offsets)
    assert torch.equal(one.flips, two.flips)
    for seed, epoch in ((7, 4), (8, 3), (3, 7)):
        assert not torch.equal(one.order, EpochPlan(500, seed, epoch, 2, True).order)


def test_a_plan_leaves_torchs_own_stream_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    EpochPlan(100, 1, 1, 2, True)
    assert torch.equal(torch.rand(4), expected)


def test_seeds_are_mixed_the_same_way_for_ever():
    assert mixed(0, 0) == 3056769172604291498
    assert len({mixed(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900


def test_offsets_and_flips_cover_their_range_evenly():
    plan = EpochPlan(9000, 0, 0, 1, True)
    assert plan.order.sort().values.tolist() == list(range(9000))
    for axis in (0, 1):
        counts = torch.bincount(plan.offsets[:, axis], minlength=3)
        assert (counts - 3000).abs().max() < 200
    assert abs(int(plan.flips.sum()) - 4500) < 200
    assert not EpochPlan(9000, 0, 0, 1, False).flips.any()


def test_pixels_do_not_depend_on_the_batch_size():
    pixels = random_pixels(50, 16, 16)

    def epoch(batch: int) -> dict[int, torch.Tensor]:
        plan = EpochPlan(50, 1, 1, 2, True)
        return {
            int(i): image
            for indices in plan.batches(batch)
            for i, image in zip(
                indices, augment(pixels[indices], plan.offsets[indices], plan.flips[indices], 2), strict=True
            )
        }

    small, large = epoch(5), epoch(25)
    assert sorted(small) == sorted(large) == list(range(50))
    assert all(torch.equal(small[i], large[i]) for i in range(50))


@pytest.mark.parametrize(
    ("n", "batch", "keep_last", "sizes"),
    [
        (10, 4, False, [4, 4]), (10, 4, True, [4, 4, 2]), (10, 5, False, [5, 5]), (10, 5, True, [5, 5]),
        (3, 8, False, [3]), (3, 8, True, [3]), (8, 8, False, [8]),
    ],
)  # fmt: skip
def test_a_last_smaller_batch_is_dropped_unless_it_is_kept_or_the_only_one(n, batch, keep_last, sizes):
    batches = list(EpochPlan(n, 0, 0, 2, False).batches(batch, keep_last))
    assert [len(b) for b in batches] == sizes == batch_sizes(n, batch, keep_last)
    assert len(set(torch.cat(batches).tolist())) == sum(sizes)
