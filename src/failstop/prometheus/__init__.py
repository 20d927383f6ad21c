"""Metrics for Prometheus: `instrument(failsafe)` tells of it until the instrument is closed."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry

from failstop import ConfigurationError, FailSafe
from failstop.prometheus._board import board_of
from failstop.prometheus._instrument import Instrument

__all__ = ["Instrument", "instrument"]


def instrument(failsafe: FailSafe, registry: CollectorRegistry = REGISTRY) -> Instrument:
    """Tell Prometheus of `failsafe` from now on, until the returned instrument is closed.

    Several FailSafes share a registry by their services' names. In multiprocess mode the values go
    into the files of that mode, and `registry` is left as it is.

    Args:
        failsafe: what is measured; call it before `start()`, so that nothing is missed.
        registry: what is scraped.

    Raises:
        ConfigurationError: a service of this name is in the registry already.
    """
    if not isinstance(failsafe, FailSafe):
        raise ConfigurationError(f"instrument() takes a FailSafe, not {type(failsafe).__name__}")
    return Instrument(failsafe, board_of(registry))
