"""Semore: record driving, ask vision-language models once, train visual reinforcement learning from the cache.

The stages lie as folders at the top of the repository and are imported from here: `semore.collect`, `semore.annotate`,
`semore.datasets`, `semore.train`, `semore.evaluate`.
"""
