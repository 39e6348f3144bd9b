"""A stream cut into blocks of whole lines, however its bytes arrive."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_load_test.components.results import source
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.source import line_blocks


class Trickle(io.BytesIO):
    """Gives at most as many bytes as are asked for, and often fewer, as a pipe does."""

    def __init__(self, content: bytes, pieces: list[int]) -> None:
        super().__init__(content)
        self._pieces = iter(pieces)

    def readinto(self, place: memoryview) -> int:  # type: ignore[override]
        return super().readinto(place[: next(self._pieces, 1)])


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "BLOCK_BYTES", 16)
        yield


@given(
    st.lists(st.binary(max_size=70) | st.text("ab", max_size=9).map(str.encode), max_size=12).map(b"\n".join),
    st.integers(0, 40),
    st.lists(st.integers(1, 16), max_size=30),
)
def test_blocks_are_the_stream_in_whole_lines(content: bytes, head: int, pieces: list[int]) -> None:
    stream = Trickle(content[head:], pieces)
    joined, line = b"", 1
    for block in line_blocks(stream.readinto, "stream", content[:head]):
        assert block.first_line == line
        assert [place for place, of in enumerate(block.text) if of == 10] == block.newlines.tolist()
        assert block.ended == block.text.endswith(b"\n")
        assert not any(block.lines.characters[block.lines.length :])
        line += len(block.newlines)
        joined += block.text
    assert joined == content


def test_a_line_longer_than_any_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_LINE_BYTES", 1_000)
    stream = io.BytesIO(b"short\n" + b"x" * 2_000)
    with pytest.raises(ResultsError, match="line 2"):
        list(line_blocks(stream.readinto, "stream"))  # type: ignore[arg-type]
