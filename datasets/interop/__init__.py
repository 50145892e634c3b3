"""Other formats and places: Minari, LeRobot, Rerun, the model hub, and a card that describes the data."""
