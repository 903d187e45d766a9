"""Ways in which a frame may be spoilt."""

from collections.abc import Callable

from hypothesis import strategies as st

Mutation = Callable[[bytes], bytes]


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """Cut it off, change a byte, put something in, or say a part twice."""
    kind = draw(st.integers(0, 3))
    where, value = draw(st.integers(0, 10_000)), draw(st.binary(min_size=1, max_size=4))

    def mutate(frame: bytes) -> bytes:
        at = where % (len(frame) + 1)
        match kind:
            case 0:
                return frame[:at]
            case 1:
                return frame[:at] + value + frame[at + len(value) :]
            case 2:
                return frame[:at] + value + frame[at:]
            case _:
                return frame[:at] + frame[at // 2 :]

    return mutate
