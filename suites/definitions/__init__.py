"""Definitions: each file is a suite, `suite() -> Suite`: only data, one question each."""
