"""How far the log has come: numbers of messages, which may fall inside a block. Pure."""

import attrs


@attrs.frozen
class Watermarks:
    """One value, true at one moment. Raises AssertionError where it cannot be: a bug of ours."""

    acknowledged: int
    """Nothing up to this number is held."""
    handed_out: int
    """Nothing beyond this number was ever taken."""
    written: int
    """Everything up to this number that is not acknowledged is on disk; 0: nothing is."""
    loaded: int
    """Everything up to this number that is on disk is in memory, too."""
    next: int
    """The number of the message that comes next."""

    def __attrs_post_init__(self) -> None:
        assert 0 <= self.acknowledged <= self.handed_out < self.next, self
        assert 0 <= self.loaded <= self.written < self.next, self
        assert not self.written or self.handed_out <= self.loaded, self
