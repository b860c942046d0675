//! The database: the truth about runs, work, calls and locks.
