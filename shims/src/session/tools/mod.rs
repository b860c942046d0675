//! The four tools: `read`, `bash`, `edit`, `write` (agent-session.md §7).
