//! What a user relies on, through the real parts: one binary, one module for each subject.

mod arm_fixture;
mod arm_identity;
mod arm_poll;
mod arm_post;
mod arm_read;
mod arm_throttle;
mod arm_wire;
mod contracts;
mod manual_clock;
mod rollout_flow;
mod world;
