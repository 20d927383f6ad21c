"""The service as it grew: every module has a fallback that hides an outage."""
