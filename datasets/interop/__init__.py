"""Other formats and places: Minari, LeRobot, rerun, a hub, and a card that describes the data."""
