"""Contact sheets of the embedded world."""
