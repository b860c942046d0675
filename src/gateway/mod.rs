//! The HTTP API: its faces and their routes.
