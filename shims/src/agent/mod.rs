//! `al-agent`: PID 1 of a container, from start-up to exit code (containers.md §10).
