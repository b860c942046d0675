//! Black-box tests: the real programs, driven from outside.
