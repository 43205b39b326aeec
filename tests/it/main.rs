//! What a user relies on, through the real parts: one binary, one module for each subject.

mod host_answers;
mod host_envelope;
mod host_functions;
mod host_http;
mod host_process;
mod host_queue;
mod host_queue_fake;
mod host_stub;
mod host_timers;
