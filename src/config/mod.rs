//! Project, agent and environment files: loading, merging, checking.
