/// Lets all threads of this process share one heap arena.
///
/// By default the C library gives every thread one of its own, each of which grows to the largest need of
/// that thread and keeps it. Must be called before the first thread is made.
pub fn share_heap() {
    // SAFETY: mallopt changes a parameter of the allocator and touches no memory of ours.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
