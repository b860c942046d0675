//! Black-box tests: the real programs, driven from outside.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod agent_bed;
mod agent_docs;
mod agent_preflight;
mod agent_process;
mod agent_script;
mod agent_session;
mod cli_control;
mod cli_cron;
mod cli_doctor;
mod cli_logs;
mod cli_queue;
mod cli_run;
mod cli_stat;
mod http_auth;
mod http_container_face;
mod http_control;
mod http_faces;
mod http_hostile;
mod http_logs;
mod http_receipts;
mod http_stats;
mod http_webhooks;
mod run_calls;
mod run_docker;
mod run_hardening;
mod run_images;
mod run_input;
mod run_json;
mod run_life;
mod run_model;
mod run_prompt;
mod run_results;
mod run_views;
mod shims_requests;
mod shims_signals;
mod shims_wait;
mod start_adopt;
mod start_basics;
mod start_calls;
mod start_queue;
mod store_disk;
mod support;
mod tidy;
mod webhooks;
