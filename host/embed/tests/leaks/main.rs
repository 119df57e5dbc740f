//! What hosts leave behind in their process: nothing. One test in a process of its own, because it counts what the process has.

#[path = "../host/common.rs"]
mod common;
mod fails;
mod held;
mod lives;

#[test]
fn hosts_leave_nothing_behind() {
    lives::a_hundred_lives_leave_nothing();
    lives::a_host_that_is_dropped_leaves_nothing_either();
    lives::nothing_is_left_on_a_redis_server_either();
    fails::whatever_fails_nothing_is_left_and_the_next_start_succeeds();
}
