"""Vision-language models as describer and judge, in this process or behind a server."""
