"""Films of episodes and single pictures of what a policy saw and did."""
