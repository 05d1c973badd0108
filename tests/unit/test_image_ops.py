"""What each op for images does to pixels, boxes and masks, what ops do one after the other, and what is refused."""

import json
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pyarrow as pa
import pytest

from raysynth.draws import Draws
from raysynth.errors import DataError, RecipeError
from raysynth.image_headers import RAW, format_of
from raysynth.ops._then import STEP, Then, numbered
from raysynth.ops.base import Asking, Lent, Op
from raysynth.ops.image._geometry import Move, scaled, shifted, turned
from raysynth.parts import available, check_options, find
from raysynth.pictures import Pixels, data_of, encoded, image_array, pictures
from raysynth.row_ids import id_words
from raysynth.schema import FILE, IMAGE, ROW, Column, Schema
from raysynth.stages import augment
from raysynth.stages.augment import augmented_rows, cuts, lent, made_schema, pixel_bytes

PHOTO, MASK = Column("photo", "image", IMAGE), Column("mask", "image", IMAGE)
SCHEMA = Schema((PHOTO, MASK, Column("boxes", "json", pa.string()), Column("label", "category", pa.string())))
ALONG: dict[str, Any] = {"column": "photo", "boxes": "boxes", "masks": ("mask",)}
HEIGHT, WIDTH = 24, 32
COUNT = 40
MOVING = ["image.rotate", "image.flip", "image.crop", "image.resize", "image.affine", "image.perspective"]


def scene(row: int) -> tuple[Pixels, Pixels, list[list[Any]]]:
    """Dark, with one bright rectangle: picture, mask and box of it."""
    noise = np.random.default_rng(row)
    x, y, width, height = (int(noise.integers(low, high)) for low, high in ((8, 14), (6, 10), (8, 11), (6, 9)))
    pixels, mask = np.full((HEIGHT, WIDTH, 3), 20, np.uint8), np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    pixels[y : y + height, x : x + width], mask[y : y + height, x : x + width] = 240, 7
    return pixels, mask, [[x, y, width, height, f"thing {row}"]]


def rows_of(scenes: Sequence[tuple[Pixels, Pixels, list[list[Any]]]]) -> pa.Table:
    columns: dict[str, Any] = {
        FILE: ["a"] * len(scenes),
        ROW: pa.array(range(len(scenes)), pa.int64()),
        "photo": image_array([encoded(pixels) for pixels, _, _ in scenes]),
        "mask": image_array([encoded(mask) for _, mask, _ in scenes]),
        "boxes": [json.dumps(boxes) for _, _, boxes in scenes],
        "label": ["even" if row % 2 == 0 else "odd" for row in range(len(scenes))],
    }
    return pa.table(columns)


ROWS = rows_of([scene(row) for row in range(COUNT)])
DRAWS = Draws.of(7, "augment-0-0", id_words(ROWS, 7))


def settled(name: str, **options: Any) -> Op:
    op: Op = find("ops", name)(SCHEMA, **options)
    op.settle(op.observe(ROWS))
    return op


def made(name: str, rows: pa.Table = ROWS, **options: Any) -> pa.Table:
    return settled(name, **options)(rows, DRAWS.take(np.arange(rows.num_rows)))


def photos(rows: pa.Table, column: str = "photo") -> list[Pixels]:
    return [pixels for pixels in pictures(rows[column]) if pixels is not None]


# --- geometry


@pytest.mark.parametrize("name", MOVING)
def test_what_a_box_and_a_mask_say_is_where_the_picture_shows_it(name: str) -> None:
    options = {
        "image.resize": {"size": (30, 20)},
        "image.flip": {"vertical": 0.5},
        "image.rotate": {"fill": "black"},
        "image.affine": {"fill": "black"},
        "image.perspective": {"fill": "black"},
    }.get(name, {})
    rows = made(name, **ALONG, **options)
    for pixels, mask, text in zip(photos(rows), photos(rows, "mask"), rows["boxes"].to_pylist(), strict=True):
        assert mask.shape[:2] == pixels.shape[:2] and set(np.unique(mask)) <= {0, 7}, "no label that was not there"
        bright = pixels[..., 0] > 130
        assert (bright != (mask[..., 0] == 7)).mean() < 0.04, "they part only along the rim"
        ((x, y, width, height, _),) = json.loads(text)
        down, across = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        seen = np.array([across[0], down[0], across[-1] + 1, down[-1] + 1])
        assert np.abs(seen - [x, y, x + width, y + height]).max() <= 2.5, "of a turned rectangle blending takes the tips"


def test_flipping_twice_gives_picture_mask_and_boxes_back() -> None:
    for axis in ({"horizontal": 1.0}, {"horizontal": 0.0, "vertical": 1.0}, {"horizontal": 1.0, "vertical": 1.0}):
        once = made("image.flip", **ALONG, **axis)
        twice = made("image.flip", once, **ALONG, **axis)
        for column in ("photo", "mask"):
            assert all(np.array_equal(was, now) for was, now in zip(photos(ROWS, column), photos(twice, column), strict=True))
            assert not all(np.array_equal(was, now) for was, now in zip(photos(ROWS, column), photos(once, column), strict=True))
        assert twice["boxes"].to_pylist() == ROWS["boxes"].to_pylist() != once["boxes"].to_pylist()


def test_whole_pixels_are_cut_and_mirrored_as_a_warp_would_but_exactly() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    move = Move(scaled(1, 1) @ shifted(-2, -1), 5, 8)
    assert np.array_equal(move.picture(pixels), pixels[1:6, 2:10])
    assert np.array_equal(Move(scaled(-1, 1) @ shifted(-14, 0), 9, 14).picture(pixels), pixels[:, ::-1])
    quarter = shifted(4.5, 7) @ turned(90) @ shifted(-7, -4.5)
    assert np.array_equal(Move(quarter, 14, 9).picture(pixels), np.rot90(pixels)), "anticlockwise"
    doubled = Move(scaled(2, 2), 18, 28).picture(pixels, mask=True)
    assert np.array_equal(doubled, np.repeat(np.repeat(pixels, 2, 0), 2, 1))
    beyond = Move(shifted(3, 0), 9, 14, fill="white").picture(pixels)
    assert (beyond[:, :3] == 255).all() and np.array_equal(beyond[:, 3:], pixels[:, :11])


def test_boxes_are_cut_to_the_picture_and_go_when_too_little_of_them_is_left() -> None:
    move = Move(shifted(-10, 0), 20, 20)
    boxes, seen = move.boxes(np.array([[12.0, 3, 5, 5], [5, 3, 10, 4], [0, 0, 10.5, 4], [0, 0, 9, 4]]))
    assert boxes[:2].tolist() == [[2, 3, 5, 5], [0, 3, 5, 4]]
    assert seen.tolist() == [True, True, False, False]


def test_what_stands_behind_a_box_stays_and_no_boxes_are_an_empty_list() -> None:
    shown = rows_of([(scene(0)[0], scene(0)[1], [[0, 0, 4, 4, {"class": "嘴"}, 1], [20, 20, 8, 4, "b"]]), scene(1)])
    cut = made("image.crop", shown, **ALONG, place="centre", size=(24, 16), resize=False)
    assert json.loads(str(cut["boxes"][0].as_py())) == [[12, 20, 4, 4, "b"]]
    gone = made("image.crop", shown.slice(0, 1), **ALONG, place="centre", size=(4, 4), resize=False)
    assert gone["boxes"].to_pylist() == ["[]"]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[[1, 2, 3]]",
        "[1, 2, 3, 4]",
        "no",
        '[["a", 1, 2, 3]]',
        "[[1, 2, 3, NaN]]",
        "7",
        f"[[1, 2, 3, {9 * 10**400}]]",
        "[" * 99_999,
    ],
)
def test_what_is_no_list_of_boxes_is_told(text: str) -> None:
    rows = ROWS.slice(0, 1).set_column(4, "boxes", pa.array([text]))
    with pytest.raises(DataError, match="a row's 'boxes' is no list of"):
        made("image.flip", rows, **ALONG, horizontal=1.0)


def test_a_mask_of_another_size_is_stretched_to_its_picture() -> None:
    small = np.array([[[1], [2]]], np.uint8)
    rows = ROWS.slice(0, 1).set_column(3, "mask", image_array([encoded(small)]))
    (mask,) = photos(made("image.flip", rows, **ALONG, horizontal=1.0), "mask")
    assert mask.shape == (HEIGHT, WIDTH, 1) and (mask[:, : WIDTH // 2] == 2).all() and (mask[:, WIDTH // 2 :] == 1).all()


def test_crops_have_the_areas_proportions_and_sizes_asked_for() -> None:
    tall = np.zeros((100, 60, 3), np.uint8)
    tall[..., 0], tall[..., 1] = np.arange(100)[:, None], np.arange(60)
    rows = rows_of([(tall, tall[..., :1], [])] * COUNT)
    parts = photos(made("image.crop", rows, column="photo", scale=(0.25, 0.5), ratio=(0.5, 2.0), size=None, resize=True))
    assert {part.shape for part in parts} == {(100, 60, 3)}
    ends = np.array([[part[0, 0, 0], part[-1, 0, 0], part[0, 0, 1], part[0, -1, 1]] for part in parts]).astype(float)
    down, across = ends[:, 1] - ends[:, 0], ends[:, 3] - ends[:, 2]
    areas = (down + 1) * (across + 1) / 6000
    assert 0.2 < areas.min() < 0.3 and 0.4 < areas.max() < 0.55
    assert len(set(ends[:, 0])) > 10 and len(set(ends[:, 2])) > 10, "from many places"
    (middle, *_) = photos(made("image.crop", rows, column="photo", place="centre", size=(50, 90), resize=False))
    assert middle.shape == (50, 60, 3) and middle[0, 0].tolist() == [25, 0, 0], "no wider than it is"
    (shrunk, *_) = photos(made("image.crop", rows, column="photo", size=(7, 9)))
    assert shrunk.shape == (7, 9, 3)


def test_angles_are_of_both_signs_and_within_their_bounds() -> None:
    rows = made("image.rotate", **ALONG, degrees=10.0, fill="black")
    angles = []
    for mask in photos(rows, "mask"):
        points = np.argwhere(mask[..., 0] == 7)[:, ::-1].astype(np.float32)
        angle = cast("Any", cv2.minAreaRect(points))[2] % 90
        angles.append(angle - 90 if angle > 45 else angle)
    assert min(angles) < -3 and max(angles) > 3 and max(map(abs, angles)) < 18, "of a rectangle of few pixels"


# --- colours


def test_colours_change_by_what_they_say_and_grey_stays_grey() -> None:
    flat = np.full((4, 4, 3), 100, np.uint8)
    flat[:2] = 140
    rows = rows_of([(flat, flat[..., :1], [])] * COUNT)
    off: dict[str, Any] = {"column": "photo", "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    assert all(np.array_equal(one, flat) for one in photos(made("image.colour", rows, **off)))
    bright = np.array([one.mean() / 120 for one in photos(made("image.colour", rows, **{**off, "brightness": 0.5}))])
    assert 0.49 < bright.min() < 0.7 and 1.3 < bright.max() < 1.51
    high = [one.astype(float) for one in photos(made("image.colour", rows, **{**off, "contrast": 0.5}))]
    assert all(abs(one.mean() - 120) < 1 for one in high)
    spread = np.array([one[0, 0, 0] - one[-1, 0, 0] for one in high])
    assert 19 <= spread.min() < 30 and 50 < spread.max() <= 61
    for hue in photos(made("image.colour", rows, **{**off, "hue": 0.5, "saturation": 1.0})):
        assert np.abs(hue.astype(int) - flat).max() <= 1, "grey has no hue"
    (one,) = photos(made("image.colour", rows.slice(0, 1), **{**off, "column": "mask", "brightness": 1.0}), "mask")
    assert one.shape == (4, 4, 1)


def test_hues_turn_around_grey() -> None:
    from raysynth.ops.image.colour import _hues

    red = np.array([200.0, 50.0, 50.0])
    assert np.allclose(_hues(1.0, 0.0) @ red, red)
    assert np.allclose(_hues(1.0, 1.0) @ red, red)
    assert np.allclose(_hues(0.0, 0.3) @ red, np.full(3, red @ [0.299, 0.587, 0.114]), atol=0.05)
    third = _hues(1.0, 1 / 3) @ red
    assert third.argmax() != 0 and abs(third @ [0.299, 0.587, 0.114] - red @ [0.299, 0.587, 0.114]) < 0.1


def test_greyscale_keeps_channels_and_probability_is_of_each_row() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    rows = rows_of([(pixels, pixels[..., :1], [])] * COUNT)
    grey = [(one == one[..., :1]).all() for one in photos(made("image.greyscale", rows, column="photo", probability=0.5))]
    assert 8 < sum(grey) < 32
    kept = [
        data
        for data, is_grey in zip(
            data_of(made("image.greyscale", rows, column="photo", probability=0.5)["photo"]), grey, strict=True
        )
        if not is_grey
    ]
    assert all(format_of(data or b"") == "png" for data in kept), "what is left alone is not decoded"


def test_noise_is_normal_within_the_spread_asked_for_and_blur_and_jpeg_take_detail_away() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    rows = rows_of([(flat, flat[..., :1], [])] * 4)
    spreads = []
    for one in photos(made("image.noise", rows, column="photo", spread=20.0)):
        apart = one.astype(float) - 128
        spreads.append(apart.std())
        assert abs(apart.mean()) < 0.6 and abs(np.mean(np.abs(apart) > 2 * apart.std()) - 0.0455) < 0.015  # the normal law's
    assert max(spreads) < 21 and max(spreads) > 2 * min(spreads)
    noisy = made("image.noise", rows, column="photo", spread=255.0)
    for name, options in (("image.blur", {"sigma": (1.0, 1.0)}), ("image.jpeg", {"quality": (5, 5)})):
        changed = photos(made(name, noisy, column="photo", **options))
        assert all(
            one.shape == (64, 64, 3) and one.std() < 0.7 * was.std() for one, was in zip(changed, photos(noisy), strict=True)
        )


def test_erase_wipes_the_area_out_that_was_asked_for() -> None:
    white = np.full((40, 50, 3), 255, np.uint8)
    rows = rows_of([(white, white[..., :1], [])] * COUNT)
    shares = [
        (one == 0).mean()
        for one in photos(made("image.erase", rows, column="photo", area=(0.1, 0.2), fill="black", probability=1.0))
    ]
    assert 0.09 < min(shares) < 0.13 and 0.17 < max(shares) < 0.22
    assert sum((one == 0).any() for one in photos(made("image.erase", rows, column="photo", fill="black"))) in range(10, 31)
    noisy = photos(made("image.erase", rows, column="photo", fill="noise", probability=1.0))
    assert all(np.unique(one).size > 60 for one in noisy) and not np.array_equal(noisy[0], noisy[1])
    assert all((one == 255).all() for one in photos(made("image.erase", rows, column="photo", fill="mean", probability=1.0)))


# --- partners


def test_mixup_shines_through_and_cutmix_pastes_each_as_lam_says() -> None:
    dark, light = np.zeros((20, 20, 3), np.uint8), np.full((40, 30, 1), 200, np.uint8)
    rows = rows_of([(dark, dark[..., :1], []), (light, light, [])])
    for name in ("image.mixup", "image.cutmix"):
        op: Op = find("ops", name)(SCHEMA, column="photo", target="label", alpha=1.0)
        op.settle(op.observe(rows))
        many = pa.concat_tables([rows.slice(0, 1)] * 200)
        found = op(many, Draws.range(3, "augment", 0, 200))
        lam, other = found["lam"].to_numpy(), np.array(found["label_b"].to_pylist()) == "odd"
        assert set(found["label"].to_pylist()) == {"even"} and 60 < other.sum() < 140
        shown = np.array([one.mean() / 200 for one in photos(found)])
        assert np.abs(shown[other] - (1 - lam[other])).max() < 0.005 and (shown[~other] == 0).all()
        assert lam.min() < 0.2 and lam.max() > 0.9
    assert found.schema.field("lam").type == op.made["lam"].type and op.made["label_b"].kind == "category"


def test_who_has_no_picture_and_who_is_not_chosen_has_the_whole_of_lam() -> None:
    rows = ROWS.set_column(2, "photo", image_array([None, *data_of(ROWS["photo"])[1:]]))
    found = made("image.mixup", rows, column="photo", target="label", probability=0.5)
    lam = found["lam"].to_numpy()
    assert found["photo"][0].as_py() is None and lam[0] == 1 and 8 < (lam == 1).sum() < 32
    empty: Op = find("ops", "image.cutmix")(SCHEMA, column="photo", target="label")
    none = ROWS.set_column(2, "photo", image_array([None] * COUNT))
    empty.settle(empty.observe(none))
    assert empty(none, DRAWS)["label_b"].null_count == COUNT


def test_large_partners_are_kept_small() -> None:
    large = np.zeros((30, 1100, 3), np.uint8)
    op: Any = find("ops", "image.mixup")(SCHEMA, column="photo", target="label", pool_rows=3)
    pool = op.observe(rows_of([(large, large[..., :1], [])] * 5)).rows
    assert [one.shape for one in photos(pool)] == [(14, 512, 3)] * 3


# --- one after the other


class _Twice(Op):
    """Every row two times."""

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return rows.take(np.repeat(np.arange(rows.num_rows), 2))


class _Marks(Op):
    """A draw of each row, as a column of its own."""

    @property
    def made(self) -> Schema:
        return self.schema.with_column(Column("mark", "number", pa.float64()))

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return rows.append_column("mark", pa.array(draws.uniform("mark")))


class _Borrows(Lent):
    run = "memory://test-image-ops/none"

    def lend(self, model: Any) -> None:
        raise AssertionError

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return rows


class _Asks(Asking):
    def send(self, request: Any) -> Any: ...
    def usage(self, reply: Any) -> Any: ...
    def spent(self, read: float, written: float) -> Any: ...
    def foreseen(self, rows: pa.Table) -> Any: ...
    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return rows


def test_rows_of_which_there_are_several_draw_apart_and_alike_in_any_batch() -> None:
    chain = Then([_Twice(SCHEMA), _Twice(SCHEMA), _Marks(SCHEMA)])
    rows = ROWS.select([FILE, ROW, "label"])
    whole = chain(rows, DRAWS)
    assert len(set(whole["mark"].to_pylist())) == 4 * COUNT
    pieces = [chain(rows.slice(start, 7), DRAWS.take(np.arange(start, min(start + 7, COUNT)))) for start in range(0, COUNT, 7)]
    assert pa.concat_tables(pieces).equals(whole)


def test_no_row_takes_the_number_of_another_for_a_part_of_its_name() -> None:
    names = ["a", "a", "a-1", f"a{STEP}-1"]
    rows = pa.table({FILE: names, ROW: pa.array([0] * 4, pa.int64())})
    assert len(set(numbered(rows, STEP))) == 4


def test_each_op_of_a_chain_sees_the_real_rows_and_adds_its_columns() -> None:
    chain = Then(
        [
            find("ops", "image.flip")(SCHEMA, **ALONG),
            find("ops", "image.mixup")(SCHEMA, column="photo", target="label"),
            _Marks(SCHEMA),
        ]
    )
    one, other = chain.observe(ROWS.slice(0, 9)), chain.observe(ROWS.slice(9))
    chain.settle(one.merge(other))
    assert chain.made.names == [*SCHEMA.names, "label_b", "lam", "mark"]
    found = chain(ROWS, DRAWS)
    assert set(found.column_names) == {FILE, ROW, *chain.made.names}
    assert chain.facts() == {"each": [{"opencv": cv2.__version__}] * 2 + [{}]}
    alone = chain.ops[1](chain.ops[0](ROWS, DRAWS), DRAWS)
    assert not alone["lam"].equals(found["lam"]), "a step has draws of its own"
    chain.settle(None)


def test_a_chain_lends_refuses_servers_and_two_ops_that_add_one_column() -> None:
    with pytest.raises(RecipeError, match="memory://test-image-ops/none' has no trained model"):
        lent([Then([_Twice(SCHEMA), _Borrows(SCHEMA)])])
    with pytest.raises(RecipeError, match="an op that asks a server stands alone"):
        Then([_Twice(SCHEMA), _Asks(SCHEMA)])
    with pytest.raises(RecipeError, match="then: two ops add a column 'label_b'"):
        Then([find("ops", f"image.{name}")(SCHEMA, column="photo", target="label") for name in ("mixup", "cutmix")])


def test_a_chain_decodes_and_encodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    jpegs = ROWS.set_column(
        2, "photo", image_array([encoded(one, "jpeg") for one in photos(ROWS)], [f"{row}.jpg" for row in range(COUNT)])
    )
    chain = Then([settled(f"image.{name}", column="photo") for name in ("rotate", "flip", "crop", "colour")])
    between = chain.ops[0](jpegs, DRAWS)
    assert all(data is not None and data.startswith(RAW) for data in data_of(between["photo"]))
    written = augmented_rows(chain, jpegs, DRAWS, SCHEMA, chain.made, {}, mark="#augment-0-0")
    assert all(format_of(data or b"") == "jpeg" for data in data_of(written["photo"])), "as they came"
    assert cast("Any", written["photo"].chunk(0)).field("path").to_pylist()[:2] == ["0.jpg", "1.jpg"]
    by_hand = chain(jpegs, DRAWS)
    assert [encoded(one, "jpeg") for one in photos(by_hand)] == data_of(written["photo"])


def test_pieces_bound_the_pixels_and_change_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cuts(np.array([3, 3, 3, 9, 1, 0, 0]), 6) == [0, 2, 3, 4, 7]
    assert cuts(np.array([], np.int64), 6) == [0, 0]
    assert pixel_bytes(pa.chunked_array([image_array([None, encoded(np.zeros((2, 5, 1), np.uint8))])])).tolist() == [0, 30]
    chain = Then([settled("image.rotate", column="photo"), settled("image.resize", column="photo", size=(50, 50))])
    assert chain.most_pixels == 2500
    whole = chain(ROWS, DRAWS)
    monkeypatch.setattr(augment, "PIECE_BYTES", 3 * 2500 * 5)
    pieces = list(augment._pieces(ROWS, DRAWS, SCHEMA, chain.most_pixels))
    assert [rows.num_rows for rows, _ in pieces] == [2] * 20, "the mask counts as well"
    assert pa.concat_tables([chain(rows, draws) for rows, draws in pieces]).equals(whole)
    assert made_schema([chain], SCHEMA) == SCHEMA


def test_a_chain_gives_the_pictures_boxes_and_labels_of_its_ops_one_by_one() -> None:
    """Also where a mask is painted between two ops that move it, and where rows are more in the middle."""
    asked: list[tuple[str, dict[str, Any]]] = [
        ("image.rotate", {**ALONG, "probability": 0.5}),
        ("image.crop", ALONG),
        ("image.colour", {"column": "mask"}),
        ("image.flip", ALONG),
        ("image.mixup", {"column": "photo", "target": "label"}),
        ("image.erase", {"column": "photo"}),
    ]
    ops: list[Op] = [settled(name, **options) for name, options in asked]
    chain = Then([*ops[:3], _Twice(SCHEMA), *ops[3:]])
    rows = ROWS
    for number, op in enumerate(chain.ops):
        ids: dict[str, Any] = {FILE: numbered(rows, STEP), ROW: rows[ROW]}
        rows = op(rows, Draws.of(7, f"augment-0-0/{number}", id_words(pa.table(ids), 7)) if number else DRAWS)
    assert chain(ROWS, DRAWS).equals(rows)
    assert rows.num_rows == 2 * COUNT and rows["lam"].null_count == 0


# --- all of them


@pytest.mark.parametrize("name", [name for name in available("ops") if name.startswith("image.")])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 1), (3, 2, 3)], ids=str)
def test_tiny_pictures_are_no_trouble(name: str, shape: tuple[int, ...]) -> None:
    pixels = np.full(shape, 9, np.uint8)
    rows = rows_of([(pixels, pixels[..., :1], [[0, 0, shape[1], shape[0]]])] * 4)
    options: dict[str, Any] = ALONG if name in MOVING else {"column": "photo"}
    extra: dict[str, Any] = {
        "image.resize": {"size": (2, 3)},
        "image.mixup": {"target": "label"},
        "image.cutmix": {"target": "label"},
    }
    found = photos(made(name, rows, **options, **extra.get(name, {})))
    assert all(one.shape == ((2, 3, shape[2]) if name == "image.resize" else shape) for one in found)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("image.rotate", {}, "column: must name one of the columns of images. Those are: photo, mask"),
        ("image.blur", {"column": "label"}, "column: 'label' is no column of images"),
        (
            "image.flip",
            {"column": "photo", "boxes": "label"},
            "boxes: 'label' is no column of JSON. Those of kind json and text are: boxes",
        ),
        ("image.flip", {"column": "photo", "masks": ("boxes",)}, "masks: 'boxes' is no column of images"),
        ("image.flip", {"column": "mask", "masks": ("mask",)}, "column: 'mask' is no column of images"),
        ("image.crop", {"column": "photo", "scale": (0.9, 0.5)}, "scale: the first must be at most the second"),
        ("image.jpeg", {"column": "photo", "quality": (90, 5)}, "quality: the first must be at most the second"),
        ("image.mixup", {"column": "photo", "target": "photo"}, "target: 'photo' is no column of labels"),
        ("image.cutmix", {"column": "photo", "target": "nobody"}, "target: 'nobody' is no column of labels"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        find("ops", name)(SCHEMA, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("image.rotate", {"degrees": 400}, "degrees: must be less than or equal to 180"),
        ("image.rotate", {"fill": "blue"}, "fill: must be 'reflect'"),
        ("image.crop", {"scale": [0, 1]}, "scale: must be greater than 0"),
        ("image.resize", {}, "size: must be given"),
        ("image.resize", {"size": [5000, 5]}, "size: must be less than or equal to 4096"),
        ("image.flip", {"horizontal": 2}, "horizontal: must be less than or equal to 1"),
        ("image.colour", {"hue": 0.6}, "hue: must be less than or equal to 0.5"),
        ("image.mixup", {"target": "label", "alpha": 0}, "alpha: must be greater than 0"),
    ],
)
def test_options_have_limits(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_options(find("ops", name), options, "augment.0")


def test_the_sheet_in_the_docs_is_what_the_ops_draw() -> None:
    """Both went through the same WebP; another processor may round otherwise, and no more."""
    path = Path(__file__).parents[2] / "benchmarks" / "image_sheet.py"
    spec = spec_from_file_location("image_sheet", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.OPS) == {name for name in available("ops") if name.startswith("image.")}
    drawn, kept = (
        cast("Pixels", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)).astype(int)
        for data in (module.written(), module.SHEET.read_bytes())
    )
    tile = (module.NAME + 2 * (module.HEIGHT + module.GAP), module.WIDTH + module.GAP)
    apart = np.abs(drawn - kept).mean(axis=2)
    means = apart.reshape(-1, tile[0], apart.shape[1] // tile[1], tile[1]).mean(axis=(1, 3))
    assert means.max() < 1, f"of the op's tile in row and column {np.unravel_index(means.argmax(), means.shape)}"
