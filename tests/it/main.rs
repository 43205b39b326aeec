//! What a user relies on, through the real parts: one binary, one module for each subject.

mod cli;
