"""The pytest plugin: fixtures over `failstop.testing`."""
