"""Roads and lanes of a CARLA map: places by road, lane and s, and the lane under a place."""

from __future__ import annotations

import math
from typing import Final

import carla

from semore.collect.simulator import Lane
from semore.datasets.errors import SemoreError

_GOAL: Final = 0.1  # m ahead lies the waypoint that gives a lane's direction (method.md §2.4)
_RETRY: Final = (0.0, 0.02, -0.02)  # m along the road where a lane is looked for (method.md §2.5)
_ROAD_END: Final = 2.0  # m ahead where there must be road


class Lanes:
    """The lanes of a carla.Map, in metres and radians of CARLA's frame."""

    def __init__(self, town: carla.Map) -> None:
        self._map = town

    def waypoint(self, road: int, lane: int, s: float) -> carla.Waypoint:
        """The middle of a lane; SemoreError when the map has no such place."""
        found = self._map.get_waypoint_xodr(road, lane, s)
        if found is None:
            raise SemoreError(
                f"map {self._map.name} has no lane {lane} at s {s:.1f} of road {road}; is the server's map the one "
                "the scenario was made for?"
            )
        return found

    def where(self, road: int, lane: int, s: float, offset: float = 0.0) -> tuple[float, float, float]:
        """See collect.spawns.Where."""
        middle = self.waypoint(road, lane, s).transform
        x, y, yaw = middle.location.x, middle.location.y, math.radians(middle.rotation.yaw)
        return x - offset * math.sin(yaw), y + offset * math.cos(yaw), yaw

    def across(self, road: int, s: float) -> tuple[float, float, float]:
        """x, y (m) of the reference line at `s`, taken as the inner edge of lane −1 or +1, and the yaw (rad) that
        points from it to the right of s."""
        for lane in (-1, 1):
            middle = self._map.get_waypoint_xodr(road, lane, s)
            if middle is not None:
                half = middle.lane_width / 2
                x, y, yaw = self.where(road, lane, s, -half)
                return x, y, yaw - lane * math.pi / 2
        raise SemoreError(f"map {self._map.name}: road {road} has neither lane -1 nor lane 1 at s {s:.1f}")

    def under(self, place: carla.Location, yaw: float) -> tuple[Lane | None, bool]:
        """The driving lane under `place`, looked for a little ahead of and behind it (along `yaw`) too, or None; and
        whether no road lies ahead."""
        for step in _RETRY:
            near = carla.Location(place.x + step * math.cos(yaw), place.y + step * math.sin(yaw), place.z)
            found = self._map.get_waypoint(near, project_to_road=False, lane_type=carla.LaneType.Driving)
            if found is not None:
                return self._lane(found, place), not found.next(_ROAD_END)
        return None, False

    @staticmethod
    def _lane(found: carla.Waypoint, place: carla.Location) -> Lane:
        middle, ahead = found.transform.location, found.next(_GOAL)
        dx, dy = (
            (ahead[0].transform.location.x - middle.x, ahead[0].transform.location.y - middle.y) if ahead else (0, 0)
        )
        length = math.hypot(dx, dy)
        if length < _GOAL / 2:  # the road ends within the 0.1 m, or single precision ends on a huge map
            yaw = math.radians(found.transform.rotation.yaw)
            dx, dy, length = math.cos(yaw), math.sin(yaw), 1.0
        dx, dy = dx / length, dy / length
        offset = (place.y - middle.y) * dx - (place.x - middle.x) * dy
        return Lane(dx, dy, offset, found.lane_width, found.road_id, found.lane_id, found.s)
