"""A fuzzer of the whole compiler: `python -m tests.fuzz --help`."""
