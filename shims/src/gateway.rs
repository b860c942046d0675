//! HTTP/1.1 to the gateway over `std::net` (containers.md §14.1).
