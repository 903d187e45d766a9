"""An exchange that there is not, added as ARCHITECTURE.md says: trades by name, and books."""

from bourse.skin import BourseSkin
from bourse.venue import Bourse

__all__ = ["Bourse", "BourseSkin"]
