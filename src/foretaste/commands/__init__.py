"""Commands beside ``foretaste scan``, one module per subject. Each imports click and nothing heavier."""
