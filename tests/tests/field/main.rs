//! Services on and around a box in front of a pool: real programs, and each sample configuration on its box.

mod field;
mod samples;
