//! The in-container commands, one file each (containers.md §14).
