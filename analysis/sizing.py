"""How many units a rate needs: what was measured as one unit, a share of each kept free, growth, and one to spare."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """So many units of a service: `units` carry the rate, `with_spare` do when one of them is gone (N+1). `least` is
    with_spare if the capacity of a unit is at the upper end of its interval; None where it has none."""

    needed_per_s: float
    usable_per_s: float
    units: int
    with_spare: int
    least: int | None


def size(
    target_per_s: float, headroom: float, growth: float, capacity_per_s: float, missed_per_s: float | None
) -> Size:
    """The units for a rate that will grow by the share `growth`, of which the share `headroom` stays free.
    `capacity_per_s` is what one unit was confirmed to carry, `missed_per_s` the lowest rate that it does not, or
    None."""
    needed = target_per_s * (1 + growth)
    usable = capacity_per_s * (1 - headroom)
    units = math.ceil(needed / usable - 1e-9)
    least = None if missed_per_s is None else math.ceil(needed / (missed_per_s * (1 - headroom)) - 1e-9) + 1
    return Size(needed, usable, units, units + 1, least)
