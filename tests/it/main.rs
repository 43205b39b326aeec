//! What a user relies on, through the real parts: one binary, one module for each subject.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::exit,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops at once where something is not as it should be, and owns its clock and its clients"
)]

mod approval;
mod arm_fixture;
mod arm_identity;
mod arm_poll;
mod arm_post;
mod arm_read;
mod arm_throttle;
mod arm_wire;
mod azurite;
mod blast_radius;
mod browser;
mod cli;
mod cloud_shape;
mod contracts;
mod crash;
mod dashboard;
mod dead_letters;
mod demo;
mod deployments;
mod export;
mod faults;
mod fuzz;
mod gdap;
mod guests;
mod hand_over;
mod handler;
mod handler_process;
mod host_answers;
mod host_envelope;
mod host_functions;
mod host_http;
mod host_process;
mod host_queue;
mod host_queue_fake;
mod host_stub;
mod host_timers;
mod infra;
mod interleaving;
mod jit;
mod late_joiners;
mod lighthouse;
mod lint;
mod local;
mod log;
mod manual_clock;
mod notification;
mod npm;
mod operations;
mod package;
mod parked;
mod partner_center;
mod places;
mod planning;
mod processes;
mod repair;
mod retention;
mod retry;
mod rollout_flow;
mod rollouts_api;
mod rude_clients;
mod scheduled_refresh;
mod service_bus;
mod sync;
mod tables;
mod tables_pages;
mod tables_proxy;
mod telemetry;
mod telling;
mod tenancy;
mod tidy;
mod upgrade;
mod watch_offers;
mod world;
