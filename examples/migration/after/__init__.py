"""The same service on failstop: no answer is made up, and every failure says what it did."""
