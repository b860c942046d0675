//! Serving HTTP safely: our own front before `tiny_http`.
