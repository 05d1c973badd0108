"""A shelf with two parts in a temporary folder: found by name, options checked by their constructor."""

from pathlib import Path

import pytest

import raysynth.codecs
from raysynth.errors import MissingExtraError, RaysynthError, RecipeError
from raysynth.parts import available, check_options, find, options_of

PART = """
from typing import Literal
from raysynth.codecs.base import Codec

class Spare(Codec):
    def __init__(
        self, schema: object, *, width: int = 4, latent: int | None = None, sizes: tuple[int, ...] = (1,),
        rate: float = 0.1, mode: Literal["a", "b"] = "a", seed: int = 0,
    ) -> None: ...

class _Hidden(Codec): ...
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(raysynth.codecs, "__path__", [*raysynth.codecs.__path__, str(tmp_path)])
    (tmp_path / "spare.py").write_text(PART, encoding="utf-8")
    (tmp_path / "helper_of_spare.py").write_text("class Helper: ...\n", encoding="utf-8")
    return tmp_path


def test_a_part_is_found_by_the_name_of_its_file(shelf: Path) -> None:
    assert find("codecs", "spare").__name__ == "Spare"


def test_available_lists_parts_without_importing_them(shelf: Path) -> None:
    (shelf / "deep").mkdir()
    (shelf / "deep" / "one.py").write_text("import no_such_package\n" + PART, encoding="utf-8")
    names = available("codecs")
    assert {"spare", "deep.one"} <= set(names)
    assert not {"base", "helper_of_spare", "__init__"} & set(names)


@pytest.mark.parametrize("name", ["spore", "base", "helper_of_spare", "../spare", "os", "Spare", ""])
def test_an_unknown_name_is_refused_with_what_is_there(shelf: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"Available: .*spare"):
        find("codecs", name)


def test_a_misspelt_name_gets_the_nearest(shelf: Path) -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'spare'\?"):
        find("codecs", "spore")


def test_a_missing_package_names_the_install(shelf: Path) -> None:
    (shelf / "heavy.py").write_text("import no_such_package\n" + PART, encoding="utf-8")
    with pytest.raises(MissingExtraError, match="pip install no_such_package"):
        find("codecs", "heavy")


def test_two_parts_in_one_file_are_refused(shelf: Path) -> None:
    (shelf / "twice.py").write_text(PART + "\nclass Second(Codec): ...\n", encoding="utf-8")
    with pytest.raises(RaysynthError, match=r"one public class .* \(got 2\)"):
        find("codecs", "twice")


def test_options_are_the_keyword_only_arguments_but_the_seed(shelf: Path) -> None:
    assert list(options_of(find("codecs", "spare"))) == ["width", "latent", "sizes", "rate", "mode"]


def test_options_come_back_as_the_annotations_say(shelf: Path) -> None:
    checked = check_options(find("codecs", "spare"), {"sizes": [1, 2], "latent": None, "rate": 1}, "codec")
    assert checked == {"sizes": (1, 2), "latent": None, "rate": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": "big"}, r"codec\.width: must be an integer \(got 'big'\)\. Spare takes: width, latent"),
        ({"width": True}, r"codec\.width: must be an integer \(got True\)"),
        ({"latent": 1.5}, r"codec\.latent: must be an integer"),
        ({"mode": "c"}, r"codec\.mode: must be 'a' or 'b' \(got 'c'\)"),
        ({"rate": float("nan")}, r"codec\.rate: "),
        ({"widht": 3}, r"codec\.widht: unknown option\. Did you mean 'width'\?"),
        ({"seed": 3}, r"codec\.seed: unknown option"),
        ({"width": "big", "seed": 1}, r"codec\.width.*\n.*codec\.seed"),
    ],
)
def test_wrong_options_are_named(shelf: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_options(find("codecs", "spare"), options, "codec")


def test_an_option_without_a_default_must_be_given() -> None:
    class Needy:
        def __init__(self, *, url: str) -> None: ...

    with pytest.raises(RecipeError, match=r"source\.url: must be given"):
        check_options(Needy, {}, "source")
