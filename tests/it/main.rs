//! Black-box tests: the real programs, driven from outside.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod agent_bed;
mod agent_docs;
mod agent_preflight;
mod agent_process;
mod agent_script;
mod agent_session;
mod cli_cron;
mod cli_doctor;
mod http_container_face;
mod http_hostile;
mod run_calls;
mod run_docker;
mod run_hardening;
mod run_images;
mod run_input;
mod run_json;
mod run_life;
mod run_long;
mod run_model;
mod run_prompt;
mod run_results;
mod run_views;
mod shims_requests;
mod shims_signals;
mod shims_wait;
mod support;
mod tidy;
