"""The verbs: one Python function each, the same names and keywords as on the command line."""
