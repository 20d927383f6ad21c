"""The face of failstop: imports only."""
