//! The only place that knows the `docker` program.
