//! Black-box tests: the real programs, driven from outside.

mod agent_docs;
