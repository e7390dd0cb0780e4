"""What a host loads by itself. Thin: every room of logic is elsewhere."""
