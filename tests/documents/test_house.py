"""The tree keeps to plain names, small functions and one subject a folder; `python bench/house.py` prints all figures."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())


def load_bench_script(name: str) -> ModuleType:
    """Imports a script of `bench/`, which is no package."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "bench" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


house = load_bench_script("house")


@pytest.fixture(scope="module")
def measured():
    return house.measure_house(ROOT)


class TestNames:
    def test_at_most_a_quarter_of_the_functions_have_a_name_of_one_word(self, measured) -> None:
        assert measured.one_word_percent <= 25

    def test_a_function_name_has_two_words_on_average(self, measured) -> None:
        assert measured.words_per_name >= 2.0

    def test_a_public_function_of_one_word_is_a_protocol_word_or_a_command(self, measured) -> None:
        assert measured.unlisted_public_words == []

    def test_no_class_name_occurs_in_two_modules(self, measured) -> None:
        assert measured.classes_twice == {}

    def test_locals_say_what_they_hold(self, measured) -> None:
        assert measured.vague_locals <= 1, measured.vague_local_lines

    def test_texts_name_the_process_or_reader_instead_of_somebody(self, measured) -> None:
        assert measured.vague_people <= 0.5, measured.vague_people_lines


class TestSizes:
    def test_a_folder_holds_at_most_thirty_files(self, measured) -> None:
        folder, files = measured.biggest_folder_of_all
        assert files <= 30, folder

    def test_at_most_a_tenth_of_the_modules_has_under_forty_lines(self, measured) -> None:
        assert measured.small_percent <= 10, measured.small_modules

    def test_no_module_has_more_than_350_lines(self, measured) -> None:
        assert measured.big_modules == []

    def test_functions_are_short(self, measured) -> None:
        assert measured.function_median <= 10
        assert measured.function_p90 <= 30


class TestImports:
    def test_no_modules_import_each_other_in_a_circle(self, measured) -> None:
        assert measured.import_circles == []

    def test_no_import_goes_from_a_lower_layer_to_a_higher_one(self, measured) -> None:
        assert measured.arrows_back == []


class TestGlossary:
    TEXT = (ROOT / "docs" / "architecture.md").read_text()

    def test_it_explains_forty_words_once_each_in_order(self) -> None:
        section = re.search(r"^## Glossary\n(.*?)(?=^## |\Z)", self.TEXT, re.MULTILINE | re.DOTALL)
        assert section is not None
        words = re.findall(r"^\| \*\*([^*]+)\*\* \| \S", section[1], re.MULTILINE)
        assert len(words) >= 40
        assert words == sorted(set(words), key=str.lower)


class TestTheMeasurement:
    """The script finds what it is meant to find."""

    @pytest.fixture
    def planted(self, tmp_path: Path):
        (tmp_path / "actions").mkdir()
        (tmp_path / "collectors").mkdir()
        (tmp_path / ".importlinter").write_text(
            "[importlinter:contract:layers]\ntype = layers\nlayers =\n    actions\n    collectors\n"
            "[importlinter:contract:rooms]\ntype = action_layers\nlayers =\n    {actions}\n    actions.one\n"
        )
        (tmp_path / "actions" / "purge.py").write_text("import actions.vacuum\n\nSPEC = ActionSpec()\n")
        (tmp_path / "actions" / "vacuum.py").write_text("import actions.one\n\nSPEC = ActionSpec()\n")
        (tmp_path / "actions" / "one.py").write_text(
            "from collectors import two\n\n\nclass Plan:\n    def take(self, found):\n        return found\n"
        )
        (tmp_path / "collectors" / "two.py").write_text(
            '"""Asked by nobody."""\n\nimport actions.one\n\n\nclass _Plan:\n    pass\n\n\ndef wait_for_lock():\n'
            "    for left in range(2):\n        yield left\n\n\ndef take():\n    return 1\n"
        )
        return house.measure_house(tmp_path)

    def test_it_counts_names(self, planted) -> None:
        assert planted.words_per_name == pytest.approx(5 / 3)
        assert planted.one_word_percent == pytest.approx(200 / 3)
        assert planted.unlisted_public_words == ["collectors/two.py:take"]
        assert planted.classes_twice == {"Plan": ["collectors/two.py", "actions/one.py"]}

    def test_it_finds_vague_words_with_their_lines(self, planted) -> None:
        assert planted.vague_local_lines == ["collectors/two.py:11 left", "actions/one.py:5 found"]
        assert planted.vague_people_lines == ["collectors/two.py:1 nobody"]

    def test_it_finds_circles_and_arrows_back(self, planted) -> None:
        assert planted.import_circles == [["actions.one", "collectors.two"]]
        assert planted.arrows_back == ["actions.purge -> actions.vacuum", "collectors.two -> actions.one"]
