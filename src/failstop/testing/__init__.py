"""What tests need: real servers that break on command, and doubles."""
